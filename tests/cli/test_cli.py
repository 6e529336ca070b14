#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The command `fibril` from outside: every error line and exit status, serving, draining, the demo.

Usage: test_cli.py FIBRIL [NAME]. Prints TAP. Servers listen on 127.0.0.1 and a port that the kernel chooses, and
the port is read from what they print. Nothing here depends on how long anything takes, but for a limit after
which a test counts as hung.
"""

import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

FIBRIL = sys.argv[1]
PATIENCE = 20 * int(os.environ.get("FIBRIL_TEST_TIMEOUT_MULTIPLIER", "1"))
TESTS = []


def test(function):
    TESTS.append(function)
    return function


def run(*args, **more):
    return subprocess.run([FIBRIL, *args], capture_output=True, text=True, timeout=PATIENCE, check=False, **more)


def refused(value, *args, **more):
    """The command ends with status 2 and one line on standard error that names the value."""
    done = run(*args, **more)
    assert done.returncode == 2, (args, done)
    assert done.stdout == "", (args, done)
    lines = done.stderr.split("\n")
    assert len(lines) == 2 and lines[1] == "", (args, done.stderr)
    assert lines[0].startswith("fibril"), (args, done.stderr)
    assert value in lines[0], (args, done.stderr)
    return lines[0]


def refused_without_privileges(value, *args):
    """As refused, also where the tests run as root, whom no mode of a folder stops."""
    command = [FIBRIL, *args]
    if os.geteuid() == 0:
        command = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2 and "Permission denied" in done.stderr and value in done.stderr, done


class Folder:
    """A folder with a page, a file, a hidden file and a secret beside it."""

    def __enter__(self):
        self.held = tempfile.TemporaryDirectory(prefix="fibril-cli.")
        self.path = os.path.join(self.held.name, "site")
        os.makedirs(os.path.join(self.path, "sub"))
        for name, content in (("index.html", "<p>the index</p>\n"), ("digits.txt", "0123456789"), (".hidden", "h"),
                              ("sub/home.html", "home of sub\n"), ("../secret.txt", "secret")):
            with open(os.path.join(self.path, name), "w", encoding="ascii") as file:
                file.write(content)
        os.symlink("../secret.txt", os.path.join(self.path, "link.txt"))
        return self

    def __exit__(self, *_):
        self.held.cleanup()

    def beside(self, name):
        return os.path.join(self.held.name, name)


class Server:
    """A running `fibril ARGS`; ends with the block, whatever happened in it."""

    def __init__(self, *args):
        self.args = args

    def __enter__(self):
        self.process = subprocess.Popen([FIBRIL, *self.args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.head = []
        self.ports = []
        for line in self.process.stdout:
            self.head.append(line)
            found = re.match(r"listening on http://[^:/]+:(\d+)/", line)
            if found:
                self.ports.append(int(found.group(1)))
            if re.match(r"serving |open ", line):
                return self
        raise AssertionError(f"{self.args} ended: {self.process.communicate(timeout=PATIENCE)}")

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=PATIENCE)
        self.process.stdout.close()
        self.process.stderr.close()

    def get(self, path, port=None, method="GET", headers=None):
        """(response, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.ports[0], timeout=PATIENCE)
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def end(self, number=signal.SIGTERM):
        """Sends a signal and returns the exit status and what was printed since."""
        self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, output, errors


def wait_for_text(path, text):
    """Until the file exists and holds the text."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if os.path.exists(path):
            with open(path, encoding="ascii") as file:
                if text in file.read():
                    return
        time.sleep(0.02)
    raise AssertionError(f"no {text!r} in {path}")


def serve(folder, *args):
    return Server("serve", folder.path, "--bind", "127.0.0.1:0", *args)


# ---- the command line ------------------------------------------------------------------------------------


@test
def help_names_every_command_and_option():
    done = run("--help")
    assert done.returncode == 0 and "serve" in done.stdout and "demo" in done.stdout, done
    for command, options in (("serve", ("--bind", "--loops", "--log", "--access-log", "--poller", "--limits",
                                        "--keep-alive", "--drain", "--index", "--stall-ms", "--dotfiles")),
                             ("demo", ("--exit", "--bind", "--connections", "--rounds", "--poller"))):
        done = run(command, "--help")
        assert done.returncode == 0 and done.stderr == "", done
        for option in options:
            part = done.stdout.split(f"  {option}")[1].split("\n  --")[0]
            assert "default" in part and "example" in part, (command, option, part)


@test
def help_lists_the_limits_with_the_defaults_of_the_library():
    text = run("serve", "--help").stdout
    for key, default in (("request_line_bytes", "8192"), ("head_bytes", "32768"), ("body_bytes", "1048576"),
                         ("head_s", "10"), ("keep_alive_s", "65"), ("per_address_max", "no limit"),
                         ("handlers_max", "50000"), ("retry_after_s", "1")):
        assert re.search(rf"^  {key} +{default} ", text, re.MULTILINE), key


@test
def version_is_told_by_every_command():
    for args in (["--version"], ["serve", "--version"], ["demo", "--version"]):
        done = run(*args)
        assert done.returncode == 0 and re.fullmatch(r"fibril \d+\.\d+\.\d+\n", done.stdout), done


@test
def wrong_commands_are_refused():
    refused("command is missing")
    refused("'sevre'", "sevre")
    refused("'--port'", "--port")
    refused("by hand", "demo-load", "127.0.0.1:1")


@test
def wrong_options_of_serve_are_refused():
    for value, args in (("'--port'", ["--port", "80"]), ("'--port'", ["--port=80"]), ("'-x'", ["-x"]),
                        ("'-1'", ["--loops", "-1"]), ("'0'", ["--loops", "0"]), ("'257'", ["--loops=257"]),
                        ("'1x'", ["--loops", "1x"]), ("''", ["--loops", ""]), ("--loops", ["--loops"]),
                        ("'apache'", ["--log", "apache"]), ("'kqueue'", ["--poller", "kqueue"]),
                        ("'sim'", ["--poller", "sim"]), ("'localhost'", ["--bind", "localhost"]),
                        ("'127.0.0.1'", ["--bind", "127.0.0.1"]), ("'127.0.0.1:65536'", ["--bind", "127.0.0.1:65536"]),
                        ("'soon'", ["--drain", "soon"]), ("'-1'", ["--drain=-1"]), ("'1e3'", ["--keep-alive", "1e3"]),
                        ("'0'", ["--keep-alive", "0"]), ("'1.'", ["--keep-alive", "1."]),
                        ("'5s'", ["--stall-ms", "5s"]), ("'yes'", ["--dotfiles=yes"]), ("'two'", ["two"])):
        refused(value, "serve", ".", *args)


@test
def wrong_limits_are_refused():
    for value, limits in (("'body'", "body=1"), ("body_bytes", "body_bytes"), ("body_bytes", "body_bytes=1t"),
                          ("body_bytes", "body_bytes=0"), ("head_s", "head_s=1,head_s=fast"),
                          ("fields_max", "fields_max=0"),
                          ("fields_max", "fields_max=-3"), ("''", ""), ("head_s", "head_s=" + "1" * 200)):
        line = refused(value, "serve", ".", "--limits", limits)
        assert "--limits" in line, line


@test
def wrong_options_of_demo_are_refused():
    for value, args in (("'0'", ["--connections", "0"]), ("'many'", ["--connections", "many"]),
                        ("'1000001'", ["--connections=1000001"]), ("'0'", ["--rounds", "0"]),
                        ("'x'", ["--bind", "x"]), ("'select'", ["--poller", "select"]), ("'--quit'", ["--quit"]),
                        ("'word'", ["word"]), ("'1'", ["--exit=1"])):
        refused(value, "demo", *args)


@test
def an_error_stays_one_line_whatever_the_value():
    line = refused("?", "serve", ".", "--bind", "a\nb\x1b[31m")
    assert "\x1b" not in line
    refused("'xxx", "serve", ".", "--log", "x" * 5000)


@test
def an_unknown_poller_in_the_environment_is_named():
    with Folder() as folder:
        refused("'kqueue'", "serve", folder.path, "--bind", "127.0.0.1:0",
                env=dict(os.environ, FIBRIL_POLLER="kqueue"))


@test
def folders_that_cannot_be_served_are_refused():
    refused("DIR", "serve")
    refused("'/no/such/folder'", "serve", "/no/such/folder")
    with Folder() as folder:
        refused("digits.txt", "serve", os.path.join(folder.path, "digits.txt"))
        refused("no/log", "serve", folder.path, "--access-log", folder.beside("no/log"))
        os.chmod(folder.path, 0)
        try:
            refused_without_privileges(folder.path, "serve", folder.path)
        finally:
            os.chmod(folder.path, 0o700)


@test
def a_port_in_use_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "in use" in refused(address, "serve", ".", "--bind", address)
        assert "in use" in refused(address, "demo", "--bind", address)


# ---- serve -----------------------------------------------------------------------------------------------


@test
def serve_tells_each_address_and_the_poller():
    with Folder() as folder, serve(folder, "--bind", "127.0.0.1:0", "--bind", "unix:" + folder.beside("socket"),
                                   "--poller", "epoll") as server:
        text = "".join(server.head)
        assert len(server.ports) == 2 and 0 not in server.ports, text
        assert "listening on unix:" + folder.beside("socket") in text, text
        assert "poller epoll" in text and "1 loop" in text, text
        for port in server.ports:
            assert server.get("/digits.txt", port)[1] == b"0123456789"


@test
def serve_gives_files_and_ranges():
    with Folder() as folder, serve(folder) as server:
        response, body = server.get("/")
        assert response.status == 200 and body == b"<p>the index</p>\n"
        assert response.headers["Content-Type"].startswith("text/html"), response.headers
        response, body = server.get("/digits.txt", headers={"Range": "bytes=2-4"})
        assert response.status == 206 and body == b"234"
        assert response.headers["Content-Range"] == "bytes 2-4/10"
        response, body = server.get("/digits.txt", method="HEAD")
        assert response.status == 200 and response.headers["Content-Length"] == "10" and body == b""
        assert server.get("/digits.txt", method="POST")[0].status == 405


@test
def serve_gives_nothing_else():
    with Folder() as folder, serve(folder) as server:
        for path in ("/nothing", "/.hidden", "/../secret.txt", "/%2e%2e/secret.txt", "/sub/../../secret.txt",
                     "/link.txt", "/sub/..%2f..%2fsecret.txt", "/sub/"):
            response, body = server.get(path)
            assert response.status in (400, 403, 404), (path, response.status)
            assert b"secret" not in body, path


@test
def serve_knows_dotfiles_and_other_indexes_when_told():
    with Folder() as folder, serve(folder, "--dotfiles", "--index=home.html") as server:
        assert server.get("/.hidden")[1] == b"h"
        assert server.get("/sub/")[1] == b"home of sub\n"
        assert server.get("/")[0].status == 404


@test
def serve_keeps_the_limits_that_it_was_given():
    with Folder() as folder, serve(folder, "--limits", "request_line_bytes=100,fields_max=3") as server:
        assert server.get("/" + "x" * 200)[0].status == 414
        assert server.get("/", headers={f"X-{i}": "1" for i in range(5)})[0].status == 431
        assert server.get("/")[0].status == 200


@test
def serve_closes_idle_connections_when_told():
    with Folder() as folder, serve(folder, "--keep-alive", "0.05") as server:
        with socket.create_connection(("127.0.0.1", server.ports[0]), timeout=PATIENCE) as client:
            client.sendall(b"GET /digits.txt HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while part := client.recv(4096):
                answer += part
            assert answer.endswith(b"0123456789"), answer


@test
def the_access_log_is_opened_anew_on_sighup():
    with Folder() as folder:
        log, old = folder.beside("access.log"), folder.beside("access.log.1")
        with serve(folder, "--access-log", log) as server:
            server.get("/digits.txt?before")
            wait_for_text(log, "?before")
            os.rename(log, old)
            server.process.send_signal(signal.SIGHUP)
            wait_for_text(log, "")
            server.get("/digits.txt?after")
            wait_for_text(log, "?after")
            os.remove(log)
            os.mkdir(log)
            server.process.send_signal(signal.SIGHUP)
            assert "cannot reopen log" in server.process.stderr.readline()
            status, _, errors = server.end()
            assert (status, errors) == (0, ""), (status, errors)
        with open(old, encoding="ascii") as file:
            text = file.read()
        assert "?before" in text and "?after" not in text, text


@test
def serve_writes_the_log_that_was_asked_for():
    with Folder() as folder:
        log = folder.beside("access.log")
        with serve(folder, "--log", "json", "--access-log", log) as server:
            server.get("/digits.txt")
            server.get("/nothing")
            assert server.end()[0] == 0
        with open(log, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        assert [line["status"] for line in lines] == [200, 404], lines
        with serve(folder) as server:
            server.get("/digits.txt")
            status, output, _ = server.end()
            assert status == 0 and re.search(r'^127\.0\.0\.1 .*"GET /digits.txt HTTP/1.1" 200 10 ', output), output
        with serve(folder, "--log=off") as server:
            server.get("/digits.txt")
            assert server.end()[:2] == (0, "")


@test
def serve_uses_several_loops():
    with Folder() as folder, serve(folder, "--loops", "2", "--log", "off") as server:
        assert "2 loops" in "".join(server.head), server.head
        for _ in range(20):
            assert server.get("/digits.txt")[1] == b"0123456789"
        assert server.end(signal.SIGINT)[0] == 0


def begin_big(folder, server):
    """A request for a large file whose answer has begun and cannot end while nobody reads it."""
    path = os.path.join(folder.path, "big")
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(PATIENCE)
    client.connect(("127.0.0.1", server.ports[0]))
    client.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n")
    return client, client.recv(1000)


@test
def sigterm_lets_a_request_in_flight_end():
    with Folder() as folder, serve(folder, "--drain", "none", "--log", "off") as server:
        client, answer = begin_big(folder, server)
        with client:
            server.process.send_signal(signal.SIGTERM)
            assert "requests in flight: 1 " in server.process.stderr.readline()
            count = len(answer)
            while part := client.recv(1 << 20):
                count += len(part)
            assert count > 64 << 20, count
        assert server.process.wait(timeout=PATIENCE) == 0


@test
def the_deadline_of_the_drain_cuts_off_what_is_left():
    with Folder() as folder, serve(folder, "--drain", "0.1", "--log", "off") as server:
        client, _ = begin_big(folder, server)
        with client:
            assert server.end()[0] == 1


@test
def a_second_signal_ends_at_once():
    with Folder() as folder, serve(folder, "--drain", "none", "--log", "off") as server:
        client, _ = begin_big(folder, server)
        with client:
            server.process.send_signal(signal.SIGTERM)
            server.process.stderr.readline()
            assert server.end()[0] == 1


# ---- demo ------------------------------------------------------------------------------------------------


def cell(table, name):
    """The figure of a row of the demo's table."""
    found = re.search(rf"^  {name} +(\S+)", table, re.MULTILINE)
    assert found, (name, table)
    return found.group(1)


@test
def demo_answers_all_and_says_so():
    done = run("demo", "--exit", "--bind", "127.0.0.1:0", "--connections", "500")
    assert done.returncode == 0 and done.stderr == "", done
    assert cell(done.stdout, "concurrent at the peak") == "500", done.stdout
    assert cell(done.stdout, "answered") == "500", done.stdout
    assert cell(done.stdout, "failed") == "0", done.stdout
    assert float(cell(done.stdout, "seconds")) >= 1, done.stdout
    assert cell(done.stdout, "poller") in ("uring", "epoll"), done.stdout
    assert int(cell(done.stdout, "OS threads")) >= 1, done.stdout


@test
def demo_counts_every_round():
    done = run("demo", "--exit", "--bind", "127.0.0.1:0", "--connections=200", "--rounds=2", "--poller=epoll")
    assert done.returncode == 0, done
    assert cell(done.stdout, "answered") == "400", done.stdout
    assert cell(done.stdout, "poller") == "epoll", done.stdout
    assert float(cell(done.stdout, "seconds, round 2")) >= 1, done.stdout


@test
def demo_makes_do_with_few_descriptors():
    done = run("demo", "--exit", "--bind", "127.0.0.1:0", "--connections", "1000",
               preexec_fn=lambda: __import__("resource").setrlimit(7, (300, 300)))
    assert done.returncode == 0, done
    assert "300 descriptors" in done.stdout and "200 connections instead of 1000" in done.stdout, done.stdout
    assert cell(done.stdout, "answered") == "200", done.stdout


@test
def demo_serves_its_site_until_it_is_stopped():
    with Server("demo", "--bind", "127.0.0.1:0", "--connections", "50") as server:
        assert server.get("/hello")[1] == b"hello\n"
        assert server.get("/slow?ms=1")[1] == b"waited 1 ms\n"
        for query in ("", "?ms=", "?ms=60001", "?ms=-1", "?ms=1.5", "?ms=x", "?ms=100000000000"):
            response, body = server.get("/slow" + query)
            assert response.status == 400 and b"milliseconds" in body, query
        response, body = server.get("/")
        assert response.status == 200 and b"<!doctype html>" in body
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        for path in re.findall(rb'(?:src|href)="(/[^"]+\.\w+)"', body):
            assert server.get(path.decode())[0].status == 200, path
        metrics = json.loads(server.get("/metrics.json")[1])
        assert metrics["server"]["requests"] >= 50 and metrics["loop"]["switches"] > 0, metrics
        status, _, errors = server.end(signal.SIGINT)
        assert (status, errors) == (0, ""), (status, errors)


@test
def demo_streams_its_figures():
    with Server("demo", "--bind", "127.0.0.1:0", "--connections", "50") as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.ports[0], timeout=PATIENCE)
        connection.request("GET", "/events")
        response = connection.getresponse()
        assert response.headers["Content-Type"].startswith("text/event-stream"), response.headers
        lines = [response.readline().decode() for _ in range(5)]
        assert lines[0] == "event: past\n" and lines[3] == "event: pulse\n", lines
        assert len(json.loads(lines[1][6:])["points"]) == 60, lines[1]
        pulse = json.loads(lines[4][6:])
        assert pulse["answered"] >= 50 and pulse["peak"] == 50 and pulse["in_flight"] == 0, pulse
        assert server.end()[0] in (0, 1)  # the open stream may be cut off by the deadline
        connection.close()


@test
def demo_sends_another_load_when_its_page_asks():
    with Server("demo", "--bind", "127.0.0.1:0", "--connections", "50") as server:
        done = json.loads(server.get("/load?requests=40", method="POST")[1])
        assert (done["peak"], done["answered"], done["failed"]) == (40, 40, 0), done
        for query in ("", "?requests=0", "?requests=51"):
            assert server.get("/load" + query, method="POST")[0].status == 400, query
        elsewhere = {"Origin": "http://example.org"}
        assert server.get("/load?requests=40", method="POST", headers=elsewhere)[0].status == 403
        assert server.get("/load?requests=40")[0].status == 405


@test
def ctrl_c_ends_a_demo_that_is_under_load():
    process = subprocess.Popen([FIBRIL, "demo", "--bind", "127.0.0.1:0", "--connections", "50", "--rounds", "1000"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if line.startswith("opened"):
                break
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 1 and "concurrent" not in output, (process.returncode, output)
    finally:
        process.kill()
        process.wait()


class Observed:
    """A server of files that is observed; `at` is where."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen([FIBRIL, "serve", self.folder.name, "--bind", "127.0.0.1:0"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "FIBRIL_OBSERVE": "127.0.0.1:0"})
        said = self.process.stderr.readline()
        self.at = re.search(r"observed at (http://127.0.0.1:\d+/)", said).group(1)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        self.folder.cleanup()


@test
def observe_prints_what_a_program_is_doing():
    with Observed() as observed:
        done = run("observe", observed.at, "--view", "fibrils")
        assert done.returncode == 0 and "FIBRIL" in done.stdout and "http acceptor" in done.stdout, done
        done = run("observe", observed.at[len("http://"):-1], "--once", "--view", "tree")
        assert done.returncode == 0 and "nobody supervises" in done.stdout, done
        done = run("observe", observed.at, "--json", "--count", "1")
        assert json.loads(done.stdout)["loops"][0]["answered"], done


@test
def observe_refuses_what_is_no_observer():
    assert "nowhere" in refused("nowhere", "observe", "nowhere")
    assert "TARGET" in refused("TARGET", "observe")
    refused("--count", "observe", "1", "--count", "0")
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = str(unheard.getsockname()[1])
        assert "refused" in refused(port, "observe", port)
    with tempfile.TemporaryDirectory() as folder, Server("serve", folder, "--bind", "127.0.0.1:0") as server:
        assert "404" in refused(str(server.ports[0]), "observe", str(server.ports[0]))


@test
def observe_in_a_terminal_obeys_keys_and_gives_the_terminal_back():
    with Observed() as observed:
        process, terminal = pty.fork()
        if process == 0:
            os.execv(FIBRIL, [FIBRIL, "observe", observed.at])
        shown = b""
        for key, expected in ((b"", b"actors by cpu"), (b"f", b"http acceptor"), (b"i", b"fibrils by id"),
                              (b"t", b"nobody supervises"), (b"q", b"\x1b[?1049l")):
            os.write(terminal, key)
            shown = read_until(terminal, expected)
            assert expected in shown, (key, shown)
        assert os.waitpid(process, 0)[1] == 0
        os.close(terminal)


def read_until(terminal, expected):
    shown, until = b"", time.monotonic() + PATIENCE
    while expected not in shown and time.monotonic() < until:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                shown += os.read(terminal, 65536)
            except OSError:  # the other side is closed
                break
    return shown


def main():
    wanted = [function for function in TESTS if len(sys.argv) < 3 or function.__name__ == sys.argv[2]]
    print(f"1..{len(wanted)}", flush=True)
    failed = 0
    for number, function in enumerate(wanted, 1):
        name = function.__name__.replace("_", " ")
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except Exception:  # pylint: disable=broad-except
            failed += 1
            print(f"not ok {number} - {name}")
            for line in traceback.format_exc().splitlines():
                print(f"# {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
