# SPDX-License-Identifier: MIT
"""``fibril serve module:app`` as a program: command line, workers, reloading, ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import fibril
import pytest

from wsgi_server import HERE, PATIENCE_S, Server, eventually, receive_all


def run(*arguments, cwd=HERE, **env):
    """(status, output, errors) of a run that ends by itself."""
    done = subprocess.run([sys.executable, "-m", "fibril.serve", *arguments], capture_output=True, text=True, cwd=cwd,
                          timeout=PATIENCE_S, env={**os.environ, **env})
    return done.returncode, done.stdout, done.stderr


def ask(server, path="/"):
    """(pid, generation) of the worker that answers."""
    status, _, body = server.get(path)
    assert status == 200
    return tuple(int(word) for word in body.split())


# ---- what can be wrong at the start ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments, line", [
    ((), "module:app is missing"), (("no_colon",), "wants module:app"), (("a:b:c",), "wants module:app"),
    (("no_such_module:app",), "there is no module 'no_such_module'"),
    (("wsgi_apps.deeper:app",), "there is no module 'wsgi_apps.deeper'"),
    (("wsgi_apps:nothing",), "module 'wsgi_apps' has no 'nothing'"),
    (("wsgi_apps:number",), "'wsgi_apps:number' is not callable: int"),
    (("wsgi_apps:hello", "--bind", "nonsense"), "--bind wants HOST:PORT"),
    (("wsgi_apps:hello", "--bind", "127.0.0.1:99999"), "--bind wants HOST:PORT"),
    (("wsgi_apps:hello", "--bind", "192.0.2.1:80"), "cannot listen on 192.0.2.1:80"),
    (("wsgi_apps:hello", "--workers", "0"), "--workers wants a number"),
    (("wsgi_apps:hello", "--workers", "many"), "--workers wants a number"),
    (("wsgi_apps:hello", "--limits", "nonsense=1"), "knows no limit 'nonsense'"),
    (("wsgi_apps:hello", "--limits", "head_s=x"), "wants seconds"),
    (("wsgi_apps:hello", "--memory-limit", "-1"), "--memory-limit"),
    (("wsgi_apps:hello", "--chdir", "/no/such/folder"), "no folder '/no/such/folder'"),
    (("wsgi_apps:hello", "--config", "/no/such/file"), "cannot read '/no/such/file'"),
    (("wsgi_apps:hello", "--access-log", "/no/such/folder/log", "--bind", "127.0.0.1:0"), "cannot open log"),
    (("wsgi_apps:hello", "--trusted-proxies", "10.0.0.0/99"), "--trusted-proxies wants addresses and networks"),
    (("wsgi_apps:hello", "--script-name", "shop"), "--script-name wants a path"),
    (("wsgi_apps:hello", "--nonsense"), "unrecognized arguments: --nonsense"),
])
def test_each_mistake_is_one_clear_line(arguments, line):
    status, out, errors = run(*arguments)
    assert status == 2 and line in errors, errors
    assert len(errors.splitlines()) == 1 and errors.startswith("fibril serve: "), errors
    assert "serving" not in out


def test_a_port_in_use_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as s:
        for workers in ("1", "2"):
            status, _, errors = run("wsgi_apps:hello", "--bind", f"127.0.0.1:{s.getsockname()[1]}", "--workers", workers)
            assert status == 2 and errors.count("\n") == 1 and "Address already in use" in errors
    with Server("wsgi_apps:hello", "--workers", "2") as server:
        status, _, errors = run("wsgi_apps:hello", "--bind", f"127.0.0.1:{server.port}", "--workers", "2")
        assert status == 2 and "Address already in use" in errors


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("source, line", [("1 / 0\n", "ZeroDivisionError"), ("def broken(:\n", "SyntaxError"),
                                          ("import no_such_thing\n", "No module named 'no_such_thing'")])
def test_an_application_that_raises_shows_its_traceback_once(tmp_path, source, line, workers):
    (tmp_path / "failing.py").write_text(source)
    status, _, errors = run("failing:app", "--bind", "127.0.0.1:0", "--workers", workers, cwd=tmp_path)
    assert status == 2
    assert errors.count(line) == 1 and errors.count("failing.py") == 1, errors
    assert errors.endswith("fibril serve: cannot load 'failing:app'\n")
    assert "importlib" not in errors and "_serve_worker" not in errors


def test_help_names_every_option():
    status, out, _ = run("--help")
    assert status == 0
    for option in ("--bind", "--workers", "--chdir", "--reload", "--access-log", "--config", "--limits", "--timeout"):
        assert option in out


# ---- starting --------------------------------------------------------------------------------------------------------


def test_the_package_runs_it_too():
    with Server("wsgi_apps:hello") as server:
        code = [sys.executable, "-m", "fibril", "serve", "wsgi_apps:hello", "--bind", f"127.0.0.1:{server.port}"]
        done = subprocess.run(code, capture_output=True, text=True, cwd=HERE, timeout=PATIENCE_S, check=False)
        assert done.returncode == 2 and "Address already in use" in done.stderr


def test_the_command_hands_applications_and_folders_over(tmp_path):
    command = os.path.join(os.path.dirname(fibril.__file__), "..", "..", "cli", "fibril")
    if not os.path.exists(command):
        pytest.skip("the package is not in a build tree")
    done = subprocess.run([command, "serve", "--bind", "127.0.0.1:0", "no_such_module:app"], capture_output=True,
                          text=True, cwd=HERE, timeout=PATIENCE_S, env={**os.environ, "FIBRIL_PYTHON": sys.executable})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "no module 'no_such_module'" in done.stderr
    path = os.pathsep.join([os.path.dirname(os.path.abspath(command)), os.environ["PATH"]])
    (tmp_path / "a:b").mkdir()
    for folder in (str(tmp_path), "a:b"):  # with a colon it is a folder all the same
        process = subprocess.Popen([sys.executable, "-m", "fibril.serve", folder, "--bind", "127.0.0.1:0"], text=True,
                                   stdout=subprocess.PIPE, env={**os.environ, "PATH": path}, cwd=tmp_path)
        assert process.stdout.readline().startswith("listening on http://127.0.0.1:")
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        process.stdout.close()


def test_factories_and_attributes_of_attributes():
    with Server("wsgi_apps:not_an_app()") as server:
        assert server.get()[2] == b"hello\n"
    with Server("wsgi_apps:read_input.__call__") as server:
        assert server.get("/unread")[0] == 200


def test_chdir_and_a_config_file(tmp_path):
    (tmp_path / "mine.py").write_text("def app(e, s):\n    s('200 OK', [])\n    return [b'mine']\n")
    (tmp_path / "serve.toml").write_text(
        'app = "mine:app"\nbind = ["127.0.0.1:0", "unix:both.sock"]\nworkers = 2\naccess_log = "log"\nlog = "json"\n'
        '[limits]\nbody_bytes = "1m"\nhead_s = 3.5\n')
    with Server("--config", str(tmp_path / "serve.toml"), "--chdir", str(tmp_path), bind=None) as server:
        assert server.output().count("listening on") == 2 and "serving mine:app, 2 workers" in server.output()
        assert server.get("/a?b", headers={"User-Agent": "me"})[2] == b"mine"
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(tmp_path / "both.sock"))
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert receive_all(s).endswith(b"mine")
    assert not (tmp_path / "both.sock").exists()
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == 2 and any(line.get("user_agent", line.get("agent")) == "me" for line in lines)


@pytest.mark.parametrize("text, line", [("nonsense = 1\n", "unknown key 'nonsense'"), ("workers = 0\n", "--workers wants"),
                                        ("= 1\n", "is no TOML"), ('log = "xml"\n', "log wants one of")])
def test_mistakes_in_a_config_file(tmp_path, text, line):
    (tmp_path / "c.toml").write_text(text)
    status, _, errors = run("wsgi_apps:hello", "--config", str(tmp_path / "c.toml"))
    assert status == 2 and line in errors and errors.count("\n") == 1


def test_logs_go_where_they_are_told(tmp_path):
    with Server("wsgi_apps:bodies", "--access-log", "--error-log", str(tmp_path / "errors")) as server:
        server.get("/raise", headers={"Referer": "there"})
        eventually(lambda: "RuntimeError" in (tmp_path / "errors").read_text(), "the traceback")
        line = eventually(lambda: [x for x in server.output().splitlines() if "GET /raise" in x], "the access log")[0]
        assert '"GET /raise HTTP/1.1" 500 26 "there"' in line
        assert server.errors() == ""


def test_sockets_of_a_service_manager():
    with socket.create_server(("127.0.0.1", 0)) as s:
        code = ("import os,sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()));"
                "os.execv(sys.executable, [sys.executable, '-m', 'fibril.serve', 'wsgi_apps:hello'])")
        process = subprocess.Popen([sys.executable, "-c", code, str(s.fileno())], pass_fds=[s.fileno()], cwd=HERE,
                                   stdout=subprocess.DEVNULL)
        try:
            with socket.create_connection(s.getsockname(), PATIENCE_S) as c:
                c.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert receive_all(c).endswith(b"hello\n")
        finally:
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


# ---- workers ---------------------------------------------------------------------------------------------------------


def test_all_workers_serve():
    with Server("wsgi_apps:who", "--workers", "3") as server:
        assert len(server.workers()) == 3
        eventually(lambda: {ask(server)[0] for _ in range(30)} == set(server.workers()), "each has answered")


def test_a_worker_that_dies_is_replaced():
    with Server("wsgi_apps:who") as server:
        pid, _ = ask(server)
        with pytest.raises(Exception):
            server.get("/die")
        assert eventually(lambda: server.workers() and ask(server)[0], "a successor") != pid
        assert f"worker {pid} was ended by signal 9: starting another" in server.errors()


def kill(pid):
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not os.path.exists(f"/proc/{pid}"), "it is gone")


def test_workers_that_keep_dying_are_started_ever_more_slowly():
    with Server("wsgi_apps:who") as server:
        for _ in range(2):
            kill(eventually(server.workers, "a worker")[0])
            ask(server)  # waits in the queue of the socket, which no worker's death has closed
        kill(server.workers()[0])
        begin = time.monotonic()
        ask(server)
        assert time.monotonic() - begin > 0.5
        assert server.errors().count("starting another") == 3


def test_a_worker_is_replaced_after_so_many_requests():
    with Server("wsgi_apps:who", "--max-requests", "10", "--max-requests-jitter", "5") as server:
        pids = [ask(server)[0] for _ in range(9)]
        assert len(set(pids)) == 1
        eventually(lambda: len(set(pids)) > 2 or pids.append(ask(server)[0]), "two successors")
        assert all(pids.count(pid) >= 10 for pid in dict.fromkeys(pids[:-20]))
        assert "starting another" not in server.errors()


def test_a_worker_that_grows_is_replaced():
    with Server("wsgi_apps:who", "--memory-limit", "200m") as server:
        pid, _ = ask(server)
        for _ in range(4):
            ask(server, "/eat")
        eventually(lambda: ask(server)[0] != pid, "a successor")
        assert "MiB: to be replaced" in server.errors()


def test_a_worker_that_hangs_is_ended():
    with Server("wsgi_apps:who", "--timeout", "2") as server:
        pid, _ = ask(server)
        with pytest.raises(Exception):
            server.get("/hang")
        assert eventually(lambda: server.workers() and ask(server)[0], "a successor") != pid
        assert f"worker {pid} has not answered for" in server.errors()


def test_workers_end_with_the_main_process():
    with Server("wsgi_apps:who", "--workers", "2") as server:
        pids = server.workers()
        server.process.kill()
        eventually(lambda: not any(os.path.exists(f"/proc/{pid}/fd/0") for pid in pids), "they have ended")


# ---- reloading -------------------------------------------------------------------------------------------------------


class Load(threading.Thread):
    """Clients that ask on and on, on connections that they keep: what fails is in `failures`."""

    def __init__(self, server, pause=0.0):
        super().__init__()
        self.server, self.pause = server, pause
        self.answers, self.failures, self.stop = [], [], threading.Event()

    def run(self):
        connection = self.server.http()
        while not self.stop.is_set():
            try:
                connection.request("GET", "/")
                response = connection.getresponse()
                self.answers.append(response.read())
                assert response.status == 200
            except Exception as error:  # any at all is a lost request
                self.failures.append(repr(error))
                return
            self.stop.wait(self.pause)
        connection.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reload_loses_no_request(tmp_path, workers):
    generation = tmp_path / "generation"
    generation.write_text("1")
    with Server("wsgi_apps:who", "--workers", workers, env={"GENERATION": str(generation)}) as server:
        loads = [Load(server) for _ in range(8)] + [Load(server, pause=0.2) for _ in range(8)]
        for load in loads:
            load.start()
        for number in range(2, 6):
            generation.write_text(str(number))
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: all(load.answers and int(load.answers[-1].split()[1]) == number or load.failures
                                   for load in loads), f"generation {number} answers")
        for load in loads:
            load.stop.set()
            load.join()
        assert [load.failures for load in loads] == [[]] * len(loads)
        assert server.errors().count("reloading") == 4 and "starting another" not in server.errors()


def test_an_idle_connection_survives_a_reload():
    with Server("wsgi_apps:who") as server:
        old = server.workers()
        connection = server.http()
        connection.request("GET", "/")
        connection.getresponse().read()
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: ask(server)[0] not in old, "the successor answers")
        time.sleep(0.3)
        connection.request("GET", "/")
        response = connection.getresponse()
        assert response.status == 200 and response.headers["Connection"] == "close"
        assert int(response.read().split()[0]) == old[0]
        eventually(lambda: old[0] not in server.workers(), "the old worker ends after that")


def test_requests_in_flight_survive_a_reload():
    with Server("wsgi_apps:who") as server:
        old = server.workers()
        with server.connect() as s:
            s.sendall(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
            time.sleep(0.2)
            server.process.send_signal(signal.SIGHUP)
            assert receive_all(s).endswith(b"%d 0" % old[0])


def test_a_broken_reload_leaves_the_old_workers(tmp_path):
    generation = tmp_path / "generation"
    generation.write_text("1")
    with Server("wsgi_apps:who", "--workers", "2", env={"GENERATION": str(generation)}) as server:
        generation.write_text("broken")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "the old one goes on" in server.errors(), "it is said")
        assert ask(server)[1] == 1
        assert server.errors().count("ValueError") == 1
        generation.write_text("2")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: all(ask(server)[1] == 2 for _ in range(10)), "the next reload works")


def test_changed_files_are_reloaded(tmp_path):
    app = tmp_path / "mine.py"
    source = "def app(e, s):\n    s('200 OK', [])\n    return [b'%s']\n"
    app.write_text(source % "one")
    with Server("mine:app", "--reload", cwd=tmp_path) as server:
        assert server.get()[2] == b"one"
        app.write_text("broken(\n")
        eventually(lambda: "SyntaxError" in server.errors(), "the mistake is shown")
        assert server.get()[2] == b"one"
        app.write_text(source % "three")
        eventually(lambda: server.get()[2] == b"three", "the new one answers")


def test_with_reload_a_mistake_at_the_start_is_waited_out(tmp_path):
    app = tmp_path / "mine.py"
    app.write_text("broken(\n")
    with Server("mine:app", "--reload", cwd=tmp_path, wait=False) as server:
        eventually(lambda: "SyntaxError" in server.errors(), "the mistake is shown")
        app.write_text("def app(e, s):\n    s('200 OK', [])\n    return [b'fine']\n")
        eventually(lambda: "serving" in server.output(), "it serves")
        assert server.get()[2] == b"fine"


# ---- ends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_finished_at_the_end(signum):
    with Server("wsgi_apps:who") as server, server.connect() as s:
        s.sendall(b"GET /sleep HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        server.process.send_signal(signum)
        assert b"200 OK" in receive_all(s)
        assert server.end() == 0


def test_requests_that_take_too_long_are_cut_off():
    with Server("wsgi_apps:bodies", "--drain", "0.3") as server, server.connect() as s:
        s.sendall(b"GET /slow?60 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        server.end()
        with pytest.raises(Exception):
            assert b"200 OK" in receive_all(s)


def test_a_second_signal_cuts_off():
    with Server("wsgi_apps:bodies") as server, server.connect() as s:
        s.sendall(b"GET /slow?60 HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.7)
        begin = time.monotonic()
        server.end()
        assert time.monotonic() - begin < 20


def test_the_pid_file_comes_and_goes(tmp_path):
    path = tmp_path / "pid"
    with Server("wsgi_apps:hello", "--pid-file", str(path)) as server:
        assert int(path.read_text()) == server.process.pid
    assert not path.exists()


def test_what_a_request_waits_in_raises_cancelled_when_time_is_up():
    ways = ("sleep", "lock", "event", "read")
    with Server("wsgi_apps:waiting", "--drain", "0.3") as server:
        clients = [server.connect() for _ in ways]
        for client, way in zip(clients, ways):
            client.sendall(b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % way.encode())
        time.sleep(0.3)
        server.end()
        for client, way in zip(clients, ways):
            assert f"{way}: Cancelled" in server.errors() and f"{way}: went on" not in server.errors()
            client.close()
