#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""./dev matrix: the Python tests on every CPython at hand, one line each.

    matrix.py [--list] [--python PATH] [NAME...]

The rows: this system's Python, the same with public API only, those of pyenv, and Debian's newer ones, each in a root
that debootstrap makes under build/roots (FIBRIL_ROOTS names another place) when run as root. A root sees the tree by a
bind mount in a mount namespace of its own, so that nothing stays mounted. What cannot run is a skip with its reason.
"""

import argparse
import glob
import os
import shutil
import signal
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOGS = os.path.join(ROOT, "build", "logs")
ROOTS = os.environ.get("FIBRIL_ROOTS") or os.path.join(ROOT, "build", "roots")
MIRROR = "http://deb.debian.org/debian"
PACKAGES = "python3-dev gcc libc6-dev meson ninja-build pkg-config python3-pytest procps libpython{0}-testsuite"
# Of Debian's own pytest, for interpreters that have none.
PYTEST = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "attr", "attrs", "exceptiongroup", "tomli")
CONFORMANCE = ("test_thread", "test_threading_local", "test_queue", "test_context", "test_select", "test_selectors")
MOUNT = 'mount --bind "$1" "$2/src" && mount -t proc proc "$2/proc" && shift && exec chroot "$@"'


class Skip(Exception):
    """A row cannot run here."""


class Row:
    """One interpreter: how commands are run there, and what its builds are told."""

    def __init__(self, name, python, options=()):
        self.name, self.python, self.options = name, python, list(options)
        self.log = os.path.join(LOGS, f"matrix-{name}.log")
        self.tree = ROOT

    def prepare(self):
        if not os.access(self.python, os.X_OK):
            raise Skip(f"{self.python} is not here")

    def run(self, *command, env=()):
        with open(self.log, "a", encoding="utf-8") as log:
            log.write("$ " + " ".join(command) + "\n")
            log.flush()
            return subprocess.run(self.wrap(["env", *env, *command]), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=log, check=False).returncode

    def wrap(self, command):
        return command

    def pytest_path(self):
        """[] when the interpreter has pytest, else the setting that lends it Debian's."""
        if self.run(self.python, "-c", "import pytest") == 0:
            return []
        lent = os.path.join(ROOT, "build", "matrix", "pytest")
        os.makedirs(lent, exist_ok=True)
        for name in PYTEST:
            target = os.path.join("/usr/lib/python3/dist-packages", name)
            if os.path.exists(target) and not os.path.lexists(os.path.join(lent, name)):
                os.symlink(target, os.path.join(lent, name))
        setting = [f"PYTHONPATH={lent}"]
        if self.run(self.python, "-c", "import pytest", env=setting) != 0:
            raise Skip("pytest is not here")
        return setting


class Debian(Row):
    """An interpreter in a root of its own."""

    def __init__(self, suite, version):
        super().__init__(suite, "/usr/bin/python3")
        self.suite, self.version = suite, version
        self.path = os.path.join(ROOTS, suite)
        self.tree = "/src"

    def wrap(self, command):
        inside = ["sh", "-c", 'cd /src && exec "$@"', "sh", *command]
        return ["unshare", "--mount", "sh", "-c", MOUNT, "sh", ROOT, self.path, *inside]

    def bootstrap(self):
        script = f"/usr/share/debootstrap/scripts/{self.suite}"
        if not os.path.exists(script):
            script = "/usr/share/debootstrap/scripts/sid"
        shutil.rmtree(self.path, ignore_errors=True)
        os.makedirs(ROOTS, exist_ok=True)
        with open(self.log, "a", encoding="utf-8") as log:
            if subprocess.run(["debootstrap", "--variant=minbase", self.suite, self.path, MIRROR, script],
                              stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False).returncode != 0:
                raise Skip(f"debootstrap could not make {self.suite} (no network?)")

    def prepare(self):
        if os.geteuid() != 0:
            raise Skip("not root: a Debian root cannot be made")
        if not shutil.which("debootstrap"):
            raise Skip("debootstrap is not here")
        if not os.path.exists(os.path.join(self.path, "usr/bin/dpkg")):
            self.bootstrap()
        os.makedirs(os.path.join(self.path, "src"), exist_ok=True)
        packages = PACKAGES.format(self.version).split()
        if self.run("dpkg", "-s", *packages) != 0:
            shutil.copy("/etc/resolv.conf", os.path.join(self.path, "etc/resolv.conf"))
            # A mirror that lags behind is good enough here; signatures are checked all the same.
            apt = ["apt-get", "-o", "Acquire::Check-Valid-Until=false"]
            quiet = ["DEBIAN_FRONTEND=noninteractive"]
            if (self.run(*apt, "update", env=quiet) != 0 or
                    self.run(*apt, "install", "-y", "--no-install-recommends", *packages, env=quiet) != 0):
                raise Skip("its packages cannot be had (no network?)")


def rows(python):
    out = [Row("system", python), Row("portable", python, ["-Dpython_portable=true"])]
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    for minor in range(11, 15):
        for path in sorted(glob.glob(f"{pyenv}/versions/3.{minor}.*/bin/python3")):
            out.append(Row("pyenv-" + path.split("/")[-3], path))
    return out + [Debian("trixie", "3.13"), Debian("forky", "3.14")]


def build(row):
    """The folder with the package, as the row sees it. Newer compilers warn of more: that is no error here."""
    folder = f"build/matrix/{row.name}"
    if not os.path.exists(os.path.join(ROOT, folder, "build.ninja")):
        shutil.rmtree(os.path.join(ROOT, folder), ignore_errors=True)
        if row.run("meson", "setup", folder, "--buildtype=release", "-Dtests=false", "-Dwerror=false",
                   "-Dpython_package=enabled", f"-Dpython={row.python}", *row.options) != 0:
            return None
    return f"{row.tree}/{folder}/python" if row.run("ninja", "-C", folder) == 0 else None


def count(row):
    """Builds and tests there: [passed, failed, skipped], and what is to be said instead of the version."""
    row.prepare()
    lent = row.pytest_path()
    package = build(row)
    if not package:
        return [0, 1, 0], "DOES NOT BUILD"
    summary = os.path.join(ROOT, "build", "matrix", f"{row.name}.txt")
    open(summary, "w", encoding="utf-8").close()
    seen = f"{row.tree}/build/matrix/{row.name}.txt"
    commands = [[row.python, "python/tests/run.py"]]
    if row.run(row.python, "-c", "import test.test_thread") == 0:
        commands.append([row.python, "python/conformance/run.py", "--python", row.python, *CONFORMANCE])
    for command in commands:
        row.run(*command, "--path", package, "--summary", seen, env=lent)
    with open(summary, encoding="utf-8") as lines:
        results = [[int(n) for n in line.split()[1:]] for line in lines]
    results += [[0, 1, 0]] * (len(commands) - len(results))  # one that died counted nothing
    return [sum(column) for column in zip(*results)], None


def version_of(row):
    text = subprocess.run(row.wrap([row.python, "-c", "import platform; print(platform.python_version())"]), cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    return text.strip() or "?"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--python", default="/usr/bin/python3")
    p.add_argument("--list", action="store_true")
    p.add_argument("names", nargs="*")
    options = p.parse_args()
    all_rows = rows(options.python)
    unknown = set(options.names) - {row.name for row in all_rows}
    if unknown:
        sys.exit(f"matrix: no such row: {', '.join(sorted(unknown))} (they are "
                 f"{', '.join(row.name for row in all_rows)})")
    os.makedirs(LOGS, exist_ok=True)
    os.makedirs(os.path.join(ROOT, "build", "matrix"), exist_ok=True)
    # A shell starts what it puts in the background with these ignored, and tests send them to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    total = [0, 0, 0]
    for row in all_rows:
        if options.names and row.name not in options.names:
            continue
        if options.list:
            print(row.name)
            continue
        open(row.log, "w", encoding="utf-8").close()
        begun = time.monotonic()
        try:
            result, remark = count(row)
            remark = remark or f"CPython {version_of(row)}"
            print(f"{row.name:13} {remark}: {result[0]} passed, {result[1]} failed, {result[2]} skipped, "
                  f"{time.monotonic() - begun:.0f} s" + (f" ({os.path.relpath(row.log, ROOT)})" if result[1] else ""),
                  flush=True)
        except Skip as why:
            result = [0, 0, 1]
            print(f"{row.name:13} skipped: {why}", flush=True)
        total = [a + b for a, b in zip(total, result)]
    if not options.list:
        print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
