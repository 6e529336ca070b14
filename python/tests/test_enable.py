# SPDX-License-Identifier: MIT
"""Unmodified Python on fibrils: threading and what blocks, the end of the process, the command line."""

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import fibril
import helpers
from helpers import raises

ISOLATED = True


def os_threads():
    return len(os.listdir("/proc/self/task"))


def run_all(function, arguments):
    threads = [threading.Thread(target=function, args=a) for a in arguments]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


# ---- threads -----------------------------------------------------------------------------------------


def test_threads_cost_no_os_thread():
    before, gate = os_threads(), threading.Event()
    threads = [threading.Thread(target=gate.wait) for _ in range(1000)]
    for t in threads:
        t.start()
    assert os_threads() == before and threading.active_count() == 1001
    gate.set()
    for t in threads:
        t.join()
    assert threading.active_count() == 1


def test_identity_of_threads():
    seen = {}

    def work(i):
        time.sleep(0.001)
        seen[i] = threading.get_ident(), threading.current_thread().name
        assert threading.current_thread().ident == threading.get_ident()

    run_all(work, [(i,) for i in range(50)])
    assert len({ident for ident, _ in seen.values()}) == 50
    assert len({name for _, name in seen.values()}) == 50
    assert threading.main_thread() is threading.current_thread()


def test_thread_locals():
    local = threading.local()

    def work(i):
        local.x = i
        time.sleep(0.001)
        assert local.x == i

    run_all(work, [(i,) for i in range(50)])
    assert not hasattr(local, "x")


def test_a_call_that_blocks_with_the_gil_delays_the_others_only():
    import ctypes
    ticks = []

    def tick():
        for i in range(5):
            time.sleep(0.002)
            ticks.append(i)

    def block():
        for _ in range(5):
            assert ctypes.PyDLL(None).usleep(5000) == 0  # PyDLL: the GIL stays held

    run_all(block, [()] * 3)
    threads = [threading.Thread(target=tick) for _ in range(20)]
    for t in threads:
        t.start()
    run_all(block, [()] * 3)
    for t in threads:
        t.join()
    assert len(ticks) == 100


def test_an_rlock_belongs_to_one_thread():
    lock, inside = threading.RLock(), []

    def work(i):
        with lock:
            with lock:
                inside.append(i)
                time.sleep(0.0005)
                assert inside[-1] == i

    run_all(work, [(i,) for i in range(30)])
    assert sorted(inside) == list(range(30))

    def release():
        with raises(RuntimeError):
            lock.release()

    with lock:
        run_all(release, [()])


def test_conditions():
    condition, items, got = threading.Condition(), [], []

    def consume():
        with condition:
            while not items:
                condition.wait()
            got.append(items.pop())

    threads = [threading.Thread(target=consume) for _ in range(20)]
    for t in threads:
        t.start()
    for i in range(20):
        with condition:
            items.append(i)
            condition.notify()
    for t in threads:
        t.join()
    assert sorted(got) == list(range(20))
    with condition:
        assert not condition.wait(0.001)


def test_queues():
    there, back = queue.Queue(2), queue.Queue()

    def work():
        for item in iter(there.get, None):
            back.put(item * 2)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for t in threads:
        t.start()
    for i in range(200):
        there.put(i)
    for _ in threads:
        there.put(None)
    for t in threads:
        t.join()
    assert sorted(back.get() for _ in range(200)) == [2 * i for i in range(200)]
    with raises(queue.Empty):
        back.get(timeout=0.001)


def test_barriers_timers_and_pools():
    from concurrent.futures import ThreadPoolExecutor

    barrier = threading.Barrier(10)
    run_all(barrier.wait, [()] * 10)
    fired = threading.Event()
    threading.Timer(0.001, fired.set).start()
    assert fired.wait(5)
    with ThreadPoolExecutor(200) as pool:
        begun = time.monotonic()
        assert list(pool.map(lambda i: time.sleep(0.05) or i, range(200))) == list(range(200))
        assert time.monotonic() - begun < 8


def test_sleeping_threads_sleep_together():
    begun = time.monotonic()
    run_all(time.sleep, [(0.2,)] * 500)
    assert time.monotonic() - begun < 20


def test_excepthook_gets_what_a_thread_raised():
    seen = []
    threading.excepthook = lambda report: seen.append((report.exc_type, report.thread.name))
    run_all(lambda: 1 / 0, [()])
    assert [kind for kind, _ in seen] == [ZeroDivisionError]


def test_settrace_and_setprofile():
    traced, profiled = set(), set()
    threading.settrace(lambda frame, event, arg: traced.add(frame.f_code.co_name))
    threading.setprofile(lambda frame, event, arg: profiled.add(frame.f_code.co_name))

    def somewhere():
        time.sleep(0.001)

    run_all(somewhere, [()] * 3)
    threading.settrace(None)
    threading.setprofile(None)
    assert "somewhere" in traced and "somewhere" in profiled


def test_current_frames_shows_every_thread():
    gate = threading.Event()

    def waiting_here():
        gate.wait()

    threads = [threading.Thread(target=waiting_here) for _ in range(20)]
    for t in threads:
        t.start()
    frames = sys._current_frames()
    for t in threads:
        frame, names = frames[t.ident], []
        while frame:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        assert "waiting_here" in names
    gate.set()
    for t in threads:
        t.join()


def test_dump_shows_threads_that_never_called_fibril():
    gate = threading.Event()

    def waiting_here():
        gate.wait()

    thread = threading.Thread(target=waiting_here)
    thread.start()
    time.sleep(0.001)
    r, w = os.pipe()
    fibril.dump(w)
    gate.set()
    thread.join()
    assert "waiting_here" in os.read(r, 65536).decode()


def test_deep_recursion_in_a_thread():
    seen = []

    def down(n):
        return n and 1 + down(n - 1)

    run_all(lambda: seen.append(down(900)), [()])
    assert seen == [900]


def test_recursion_through_c_in_a_thread():
    class Deep:
        def __init__(self, n):
            self.n = n

        def __repr__(self):
            return repr(Deep(self.n - 1)) if self.n else "bottom"

    seen = []
    run_all(lambda: seen.append(repr(Deep(300))), [()])
    assert seen == ["bottom"]


def test_an_exception_is_set_from_outside():
    import ctypes

    seen = []

    def work():
        try:
            while True:
                time.sleep(0.001)
        except KeyError:
            seen.append("raised")

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.005)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(KeyError))
    thread.join(5)
    assert seen == ["raised"]


def test_cancel_in_a_blocking_call():
    a, b = socket.socketpair()
    seen = []

    def work():
        try:
            a.recv(1)
        except OSError:
            fibril.sleep(0)

    child = fibril.spawn(work)
    fibril.sleep(0.005)
    child.cancel()
    with raises(fibril.Cancelled):
        child.join(5)


def test_timeout_in_a_blocking_call():
    a, b = socket.socketpair()
    with raises(TimeoutError):
        with fibril.timeout(0.01):
            a.recv(1)
    fibril.sleep(0.001)
    b.send(b"x")
    assert a.recv(1) == b"x"


# ---- the world ---------------------------------------------------------------------------------------


def test_sockets():
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = server.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()

    def echo(connection):
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)

    threading.Thread(target=serve, daemon=True).start()

    def client(i):
        with socket.create_connection(server.getsockname()) as c:
            for _ in range(5):
                c.sendall(b"%d" % i * 100)
                assert c.recv(4096)

    run_all(client, [(i,) for i in range(100)])


def test_a_socket_timeout():
    a, b = socket.socketpair()
    a.settimeout(0.01)
    with raises(TimeoutError):
        a.recv(1)


def test_a_thousand_slow_requests():
    import resource
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
    if wanted < 2500:
        helpers.skip("too few descriptors are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.5)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *args):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 2048

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answers = []

    def ask():
        with socket.create_connection(server.server_address) as c:
            c.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while more := c.recv(4096):
                data += more
            answers.append(data[-2:])

    begun = time.monotonic()
    run_all(ask, [()] * 1000)
    assert answers == [b"ok"] * 1000
    assert time.monotonic() - begun < 100
    server.shutdown()


def test_subprocesses():
    begun = time.monotonic()
    run_all(lambda: subprocess.run(["sleep", "0.3"], check=True), [()] * 20)
    assert time.monotonic() - begun < 5
    done = subprocess.run(["tr", "a-z", "A-Z"], input=b"hello", stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"HELLO"


def test_asyncio_in_fifty_threads():
    import asyncio

    seen = []

    async def main(i):
        await asyncio.gather(*(asyncio.sleep(0.05) for _ in range(3)))
        seen.append(i)

    begun = time.monotonic()
    run_all(lambda i: asyncio.run(main(i)), [(i,) for i in range(50)])
    assert sorted(seen) == list(range(50))
    assert time.monotonic() - begun < 10


def test_select_poll_and_pipes():
    import select

    r, w = os.pipe()
    threading.Timer(0.01, os.write, (w, b"x")).start()
    assert select.select([r], [], [], 5)[0] == [r]
    poller = select.poll()
    poller.register(r, select.POLLIN)
    assert poller.poll(5000) == [(r, select.POLLIN)]
    assert os.read(r, 1) == b"x"
    assert poller.poll(1) == []


def test_fork():
    child = os.fork()
    if child == 0:
        try:
            run_all(time.sleep, [(0.001,)] * 5)
            os._exit(7)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_signal_handlers_run_in_the_main_thread():
    seen = []
    signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(threading.current_thread()))
    threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    time.sleep(0.05)
    assert seen == [threading.main_thread()]


def test_a_pure_python_loop_is_preempted_when_asked():
    fibril._fibril._preempt(5)
    seen = []
    thread = threading.Thread(target=lambda: seen.append(1))
    thread.start()
    end = time.monotonic() + 20
    while not seen and time.monotonic() < end:
        pass
    assert seen
    fibril._fibril._preempt(0)


def test_enable_again_and_disable():
    assert fibril.enable() is False and fibril.enabled()
    gate = threading.Event()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    with raises(RuntimeError):
        fibril.disable()
    gate.set()
    thread.join()
    fibril.yield_()
    fibril.disable()
    assert not fibril.enabled()
    before = os_threads()
    gate.clear()
    thread = threading.Thread(target=gate.wait)
    thread.start()
    assert os_threads() == before + 1
    gate.set()
    thread.join()
    fibril.enable()
    fibril.spawn(int).join()


@pytest.mark.plain
def test_enable_refuses():
    with raises(ValueError):
        fibril.enable(poller="abacus")
    with raises(ValueError):
        fibril.enable(stack_bytes=-1)
    with raises(TypeError):
        fibril.enable(poller=3)
    seen = []

    def elsewhere():
        try:
            fibril.enable()
        except RuntimeError as error:
            seen.append(str(error))

    run_all(elsewhere, [()])
    assert seen == ["enable fibril from the main thread"]
    assert not fibril.enabled() and fibril.enable(poller="epoll")
    assert fibril.metrics()["poller"] == "epoll"


@pytest.mark.plain
def test_subinterpreters_are_refused():
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        helpers.skip("no _xxsubinterpreters")
    other = interpreters.create()
    with raises(Exception) as caught:
        interpreters.run_string(other, "import fibril")
    assert "subinterpreters" in str(caught.value)


def test_threads_leak_nothing():
    import gc
    import tracemalloc

    def work():
        run_all(time.sleep, [(0,)] * 100)

    for _ in range(3):
        work()
    gc.collect()
    tracemalloc.start()
    work()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(5):
        work()
    gc.collect()
    assert (tracemalloc.get_traced_memory()[0] - before) / 500 < 50


# ---- the end of the process --------------------------------------------------------------------------


def program(text, *options, seconds=helpers.TIME_LIMIT):
    return helpers.python("-m", "fibril", *options, "-c", textwrap.dedent(text), seconds=seconds)


@pytest.mark.outside
@pytest.mark.parametrize("park", ["time.sleep(1000)", "lock.acquire()", "a.recv(1)", "fibril.sleep(1000)",
                                  "fibril.Channel().recv()", "queue.Queue().get()"])
def test_shutdown_with_a_thousand_parked_daemons(park):
    done = program(f"""
        import fibril, queue, socket, sys, threading, time
        lock = threading.Lock(); lock.acquire()
        a, b = socket.socketpair()
        def work():
            try:
                {park}
            finally:
                print("ran again")
        for _ in range(1000):
            threading.Thread(target=work, daemon=True).start()
        for _ in range(100):
            fibril.spawn(work, daemon=True)
        time.sleep(0.01)
        sys.exit(5)
        """)
    assert (done.returncode, done.stdout, done.stderr) == (5, "", "")


@pytest.mark.outside
def test_exit_waits_for_threads_and_fibrils_that_are_no_daemons():
    done = program("""
        import atexit, fibril, threading, time
        def late(n):
            time.sleep(0.05)
            print("late", n)
        fibril.spawn(late, 1)
        threading.Thread(target=late, args=(2,)).start()
        atexit.register(print, "atexit")
        """)
    assert done.returncode == 0 and done.stderr == ""
    assert sorted(done.stdout.split("\n")) == ["", "atexit", "late 1", "late 2"]


@pytest.mark.outside
def test_keyboard_interrupt_while_everything_is_parked():
    code = """
        import os, signal, threading, time
        for _ in range(100):
            threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        {wait}
        """
    for wait in ("time.sleep(1000)", "threading.Event().wait()", "import fibril; fibril.sleep(1000)",
                 "import fibril; fibril.Event().wait()", "import socket; a, b = socket.socketpair(); a.recv(1)",
                 "import select; select.poll().poll()"):
        done = program(code.format(wait=wait), seconds=20)
        assert "KeyboardInterrupt" in done.stderr, (wait, done)
        assert done.returncode in (130, -signal.SIGINT), (wait, done)


@pytest.mark.outside
def test_keyboard_interrupt_from_outside():
    code = "import threading, time; print('up', flush=True); threading.Event().wait()"
    child = subprocess.Popen([sys.executable, "-m", "fibril", "-c", code], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "up\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        said = child.communicate(timeout=20)[1]
    finally:
        child.kill()
        child.wait()
    assert "KeyboardInterrupt" in said


@pytest.mark.outside
def test_the_end_does_not_wait_for_a_watchdog_that_has_not_begun():
    done = helpers.python("-c", "import faulthandler, fibril; fibril.enable(); faulthandler.dump_traceback_later(100)",
                          seconds=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.outside
def test_an_uncaught_exception_ends_the_process():
    done = program("""
        import threading, time
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        raise ValueError("the end")
        """)
    assert done.returncode == 1 and done.stderr.endswith("ValueError: the end\n")


@pytest.mark.outside
def test_sigquit_dumps_and_the_program_goes_on():
    code = """
        import os, signal, threading, time
        def waiting_here():
            time.sleep(0.3)
        threading.Thread(target=waiting_here).start()
        def main_is_here():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGQUIT)
        main_is_here()
        print("on")
        """
    done = program(code)
    assert done.stdout == "on\n" and done.returncode == 0
    assert "waits" in done.stderr
    assert "in waiting_here" in done.stderr and "in main_is_here" in done.stderr


@pytest.mark.outside
def test_many_clean_shutdowns():
    states = ("pass", "import threading, time; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
              "import fibril; fibril.spawn(fibril.sleep, 9, daemon=True); fibril.yield_()",
              "import fibril; fibril.spawn(fibril.sleep, 0)", "import fibril; fibril.os_thread(int)",
              "import fibril; fibril.offload(int)", "import fibril; fibril.disable()",
              "import sys, fibril; fibril.spawn(sys.exit); fibril.yield_()")
    for state in states * 3:
        done = program(state)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (state, done)


# ---- python3 -m fibril -------------------------------------------------------------------------------


@pytest.mark.outside
def test_a_script_sees_what_it_would_under_python(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys, __main__\n"
                      "print(__name__, __file__, sys.argv, sys.path[0], __main__.__dict__ is globals(), __spec__)\n"
                      "import fibril; print(fibril.enabled())\n")
    done = helpers.python("-m", "fibril", str(script), "--poller", "x", cwd="/")
    plain = helpers.python(str(script), "--poller", "x", cwd="/")
    assert done.stderr == "" and done.returncode == 0
    assert done.stdout.split("\n")[0] == plain.stdout.split("\n")[0]
    assert done.stdout.split("\n")[1] == "True"


@pytest.mark.outside
def test_a_module_and_a_package_and_a_folder(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys; print(__name__, sys.argv[1:], __package__, sys.path[0])")
    for target in (["-m", "package", "a"], ["package", "a"]):
        done = helpers.python("-m", "fibril", *target, cwd=tmp_path)
        plain = helpers.python(*target, cwd=tmp_path)
        assert (done.stdout, done.stderr, done.returncode) == (plain.stdout, "", 0)


@pytest.mark.outside
def test_code_from_the_command_line_and_standard_input():
    done = helpers.python("-m", "fibril", "-c", "import sys; print(__name__, sys.argv)", "x")
    assert done.stdout == "__main__ ['-c', 'x']\n"


@pytest.mark.outside
def test_objects_of_main_can_be_pickled():
    done = program("""
        import pickle
        class Thing: pass
        print(type(pickle.loads(pickle.dumps(Thing()))) is Thing)
        """)
    assert done.stdout == "True\n"


@pytest.mark.outside
@pytest.mark.parametrize("arguments, message", [
    ([], "what shall run? (see --help)"),
    (["--poller"], "--poller wants a value"),
    (["--poller", "abacus", "-c", "0"], "unknown poller or impossible stack size: poller abacus"),
    (["--stack", "big", "-c", "0"], "--stack wants bytes, such as 262144 or 256K, not 'big'"),
    (["--preempt=-1", "-c", "0"], "--preempt wants milliseconds between 0 and 60000, not '-1'"),
    (["--nonsense"], "unknown option --nonsense (see --help)"),
    (["-m"], "-m wants an argument"),
    (["/nowhere/x.py"], "can't open file '/nowhere/x.py': No such file or directory"),
])
def test_mistakes_on_the_command_line(arguments, message):
    done = helpers.python("-m", "fibril", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"fibril: {message}\n")


@pytest.mark.outside
def test_help_version_and_doctor():
    assert helpers.python("-m", "fibril", "--help").stdout.startswith("usage: ")
    assert helpers.python("-m", "fibril", "--version").stdout.startswith("fibril 0.")
    done = helpers.python("-m", "fibril", "doctor")
    assert done.returncode == 0 and "poller" in done.stdout, done


@pytest.mark.outside
def test_options_reach_the_program():
    done = program("import fibril; print(fibril.metrics()['poller'])", "--poller=epoll", "--stack=1M", "--preempt=10")
    assert (done.stdout, done.returncode) == ("epoll\n", 0), done
    done = program("import fibril; fibril.spawn(fibril.sleep, 9, daemon=True, name='left'); fibril.yield_()",
                   "--dump-on-exit")
    assert done.returncode == 0 and '"left"' in done.stderr


@pytest.mark.outside
def test_a_deadlock_is_reported_on_request():
    done = helpers.python("-c", "import fibril; fibril.enable(deadlocks=True); fibril.Channel().recv()", seconds=20)
    assert "deadlock" in done.stderr and "fibril.Deadlock" in done.stderr and done.returncode == 1
