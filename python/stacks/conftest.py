# SPDX-License-Identifier: MIT
"""Fixtures: the two ways to run a program (OS threads, fibrils), and the servers, each started once.

    pytest python/stacks [--fibril-path DIR] [--ways plain,fibril]
"""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

import servers

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIMIT = 240  # seconds that a program may take


def pytest_addoption(parser):
    parser.addoption("--fibril-path", default=os.path.join(ROOT, "build", "release", "python"))
    parser.addoption("--ways", default="plain,fibril")
    parser.addoption("--python", default="/usr/bin/python3")
    parser.addoption("--scale", type=float, default=1.0, help="of the number of fibrils")


def pytest_generate_tests(metafunc):
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", metafunc.config.getoption("--ways").split(","), indirect=True)


class Way:
    """How Python programs are run: with OS threads, or with fibrils."""

    def __init__(self, name, options, folder):
        self.name, self.folder = name, folder
        self.fibril = name.startswith("fibril")
        self.python = options.getoption("--python")
        self.scale = options.getoption("--scale")
        self.command = [self.python, "-m", "fibril"] if self.fibril else [self.python]
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("FIBRIL", "STACK"))}
        self.env.update(PYTHONDONTWRITEBYTECODE="1", TMPDIR=folder, PYTHONFAULTHANDLER="1")
        if self.fibril:
            self.env["PYTHONPATH"] = os.path.abspath(options.getoption("--fibril-path"))

    def number(self, plain, fibril):
        return max(plain, int(fibril * self.scale)) if self.fibril else plain

    def run(self, argv, stdin="", env=None, limit=LIMIT, prefix=()):
        """Runs Python with argv and returns the finished process; one that hangs says where, and fails."""
        process = subprocess.Popen([*prefix, *self.command, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, cwd=self.folder, start_new_session=True,
                                   env=dict(self.env, **(env or {})))
        try:
            out, err = process.communicate(stdin, timeout=limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            try:
                out, err = process.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                out, err = process.communicate()
            pytest.fail("%s: no end after %d s\n%s\n%s" % (argv, limit, out[-2000:], err[-6000:]))
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def program(self, name, n, env=None):
        """Runs programs/NAME.py and returns what it reports; it must end well and without an error."""
        done = self.run([os.path.join(HERE, "programs", name + ".py"), str(n)], env=env)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        assert done.returncode == 0 and lines, "%s ended with %d\n%s\n%s" % (
            name, done.returncode, done.stdout[-2000:], done.stderr[-6000:])
        result = json.loads(lines[-1][len("RESULT "):])
        assert result["errors"] == 0, result
        assert "Traceback" not in done.stderr, done.stderr[-4000:]
        if self.fibril:  # the threads of the program are fibrils: the OS sees a handful (the pool, C libraries' own)
            assert result["os_threads"] <= 40, result
        return result


@pytest.fixture
def way(request):
    folder = tempfile.mkdtemp(prefix="stacks-")
    yield Way(request.param, request.config, folder)
    shutil.rmtree(folder, ignore_errors=True)


def server(start):
    @pytest.fixture(scope="session")
    def fixture():
        folder = tempfile.mkdtemp(prefix="stacks-")
        os.chmod(folder, 0o755)
        try:
            with start(folder) as address:
                yield address
        except servers.Missing as e:
            pytest.skip(str(e))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return fixture


postgres = server(servers.postgres)
mariadb = server(servers.mariadb)
redis = server(servers.redis)
rabbitmq = server(servers.rabbitmq)


@pytest.fixture(scope="session")
def certificate():
    """A certificate of its own for localhost, with its key, in one file."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    folder = tempfile.mkdtemp(prefix="stacks-")
    path = os.path.join(folder, "certificate.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", path + ".key", "-out", path, "-days", "30", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"], check=True, stderr=subprocess.DEVNULL)
    with open(path, "a") as out, open(path + ".key") as key:
        out.write(key.read())
    yield path
    shutil.rmtree(folder, ignore_errors=True)
