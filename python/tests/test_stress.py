# SPDX-License-Identifier: MIT
"""Many at once, for long, in whatever order: what a program in service meets.

FIBRIL_TEST_LONG=1 in the environment makes the numbers those of the long run.
"""

import functools
import gc
import os
import queue
import random
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import fibril
import helpers

ISOLATED = True
LONG = os.environ.get("FIBRIL_TEST_LONG") == "1"


def run_all(function, arguments):
    threads = [threading.Thread(target=function, args=a) for a in arguments]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


# ---- OpenSSL -----------------------------------------------------------------------------------------


def certificate(folder, name):
    """A key and a certificate of its own for that name; skips where there is no openssl program."""
    key, cert = str(folder / (name + ".key")), str(folder / (name + ".pem"))
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
               "-keyout", key, "-out", cert, "-subj", "/CN=" + name, "-addext", "subjectAltName=DNS:" + name]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, check=False)
    except FileNotFoundError:
        pytest.skip("no openssl program")
    assert done.returncode == 0, done.stderr
    return key, cert


class TlsServer:
    """Answers every line in upper case until a client has none left."""

    def __init__(self, key, cert):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert, key)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.address, self.failed = self.listener.getsockname(), 0

    def accept(self, n):
        for _ in range(n):
            threading.Thread(target=self.serve, args=(self.listener.accept()[0],), daemon=True).start()

    def serve(self, plain):
        try:
            with self.context.wrap_socket(plain, server_side=True) as s:
                while (line := s.recv(4096)):
                    s.sendall(line.upper())
        except (ssl.SSLError, ConnectionError):
            self.failed += 1


def run_tls(key, cert, n):
    """n clients at once: each third does not trust the server, each seventh speaks no TLS at all. Every one sees its
    own error and no other's, which an error queue shared between fibrils would mix up."""
    server = TlsServer(key, cert)
    trusting = ssl.create_default_context(cafile=cert)
    doubting = ssl.create_default_context()
    all_in, outcomes = threading.Barrier(n), {}

    def talk(i):
        with socket.create_connection(server.address, timeout=60) as plain:
            all_in.wait()
            if i % 7 == 0:
                plain.sendall(b"this is no handshake\r\n" * 20)
                plain.recv(1)
                outcomes[i] = "plain"
                return
            context = doubting if i % 3 == 0 else trusting
            with context.wrap_socket(plain, server_hostname="localhost") as s:
                for k in range(5):
                    line = b"line %d of client %d" % (k, i)
                    s.sendall(line)
                    assert s.recv(4096) == line.upper()
                outcomes[i] = "ok"

    def client(i):
        try:
            talk(i)
        except ssl.SSLCertVerificationError as error:
            outcomes[i] = error.verify_message
        except ConnectionResetError:
            outcomes[i] = "plain"

    threading.Thread(target=server.accept, args=(n,), daemon=True).start()
    run_all(client, [(i,) for i in range(n)])
    for i in range(n):
        wanted = "plain" if i % 7 == 0 else "self-signed certificate" if i % 3 == 0 else "ok"
        assert outcomes.get(i) == wanted, (i, outcomes.get(i))
    bad = sum(i % 7 == 0 or i % 3 == 0 for i in range(n))
    while server.failed < bad:
        time.sleep(0.01)


@pytest.mark.outside
def test_a_thousand_inside_openssl_with_errors_on_some(tmp_path):
    key, cert = certificate(tmp_path, "localhost")
    code = "import fibril; fibril.enable(); import test_stress; test_stress.run_tls(%r, %r, 1000)" % (key, cert)
    done = helpers.python("-c", code, cwd=os.path.dirname(__file__), seconds=2 * helpers.TIME_LIMIT)
    assert done.returncode == 0, done.stderr


# ---- the end of the process --------------------------------------------------------------------------

PARKED = ("a.recv(1)", "lock.acquire()", "time.sleep(1000)", "q.get()", "event.wait()", "fibril.sleep(1000)",
          "channel.recv()", "select.select([a], [], [])", "condition_wait()", "[x for x in range(10**9)] and None")
# How main ends: what it does, the exit status, and what standard error ends with.
ENDS = (("pass", 0, ""), ("sys.exit(3)", 3, ""), ("os._exit(4)", 4, ""), ("sys.exit('words')", 1, "words\n"),
        ("raise KeyError('main')", 1, "KeyError: 'main'\n"),
        ("signal.raise_signal(signal.SIGINT)", -signal.SIGINT, "KeyboardInterrupt\n"),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(1000)", -signal.SIGINT, "KeyboardInterrupt\n"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(1000)", -signal.SIGTERM, ""),
        ("gc.collect(); fibril.yield_()", 0, ""), ("threading.Thread(target=time.sleep, args=(0.001,)).start()", 0, ""),
        ("fibril.spawn(fibril.sleep, 0.001)", 0, ""), ("atexit.register(time.sleep, 0.001)", 0, ""),
        ("release()", 0, ""))


def shutdown_program(rng):
    """A program that has parked fibrils and threads of many kinds, and how it is to end."""
    parks = rng.choices(PARKED[:-1], k=rng.randrange(0, 12))
    end, status, said = rng.choice(ENDS)
    starts = [rng.choice(("threading.Thread(target=w{0}, daemon=True).start()", "fibril.spawn(w{0}, daemon=True)",
                          "fibril.os_thread(w{0}, daemon=True)" if "fibril" not in park and "channel" not in park else
                          "fibril.spawn(w{0}, daemon=True)")) for park in parks]
    lines = ["import atexit, fibril, gc, os, queue, select, signal, socket, sys, threading, time",
             "a, b = socket.socketpair(); lock = threading.Lock(); lock.acquire(); q = queue.Queue()",
             "event = threading.Event(); channel = fibril.Channel(); condition = threading.Condition()",
             "signal.signal(signal.SIGINT, signal.default_int_handler)",
             "def condition_wait():", "    with condition: condition.wait()",
             "def release():", "    b.send(b'x'); q.put(1); lock.release()", "    event.set()"]
    for i, park in enumerate(parks):
        lines += [f"def w{i}():", "    try:", f"        {park}", "    finally:", "        time.sleep(0)"]
    for i, start in enumerate(starts):
        lines.append(start.format(i))
    if rng.random() < 0.7:
        lines.append("time.sleep(0.001)")
    if rng.random() < 0.2:
        lines.append("keep = [threading.current_thread(), fibril.current()]; keep.append(keep)")
    return "\n".join([*lines, end]), status, said


def end_well(program, seed, n):
    """Runs n programs, 2,500 in the long run, that program(rng) makes; each ends as it says itself."""
    rng = random.Random(seed)
    for _ in range(2500 if LONG else n):
        text, status, said = program(rng)
        done = helpers.python("-m", "fibril", "-c", text, seconds=60)
        right = done.returncode == status and done.stderr.endswith(said) and (said or done.stderr == "")
        assert right, f"wanted {status} {said!r}, got {done.returncode}\n{done.stderr}\nof\n{text}"


@pytest.mark.outside
@pytest.mark.parametrize("seed", range(1, 5))
def test_shutdowns_in_assorted_states(seed):
    end_well(shutdown_program, seed, 25)


# What daemons are busy with while the process ends.
BUSY = ("time.sleep(0)", "time.sleep(0.0001)", "lock.acquire(); lock.release()", "event.wait(0.0001)", "sum(range(100))",
        "q.put(1); q.get()", "channel.send(1); channel.recv()", "fibril.sleep(0.0001)", "fibril_lock.acquire(timeout=0)",
        "time.sleep(0.002); one_more()", "fibril.offload(time.sleep, 0.0001)")
LATE_ENDS = ENDS[:6] + ENDS[8:12]


def busy_shutdown_program(rng):
    """A program that ends while daemons run, on OS threads first of all, some of which have only just been started; and
    whose main thread waits even while the interpreter is taken apart."""
    lines = ["import atexit, fibril, gc, os, queue, signal, sys, _thread, threading, time",
             "lock = threading.Lock(); q = queue.Queue(); event = threading.Event(); channel = fibril.Channel(100)",
             "fibril_lock = fibril.Lock(); signal.signal(signal.SIGINT, signal.default_int_handler)",
             "def one_more():", "    try: fibril.os_thread(int, daemon=True)", "    except RuntimeError: pass # at the end"]
    for i in range(rng.randrange(1, 20)):
        start = rng.choice(("fibril.os_thread(w{0}, daemon=True)",) * 4 + ("fibril.spawn(w{0}, daemon=True)",
                           "threading.Thread(target=w{0}, daemon=True).start()", "_thread.start_new_thread(w{0}, ())"))
        body = "    " + rng.choice(BUSY)
        if "os_thread" not in start: # only OS threads are interrupted
            body += "; fibril.yield_()"
        lines += [f"def w{i}():", "    while True:", "    " + body, start.format(i)]
        if rng.random() < 0.1:
            lines.append("time.sleep(0.001)")
    if rng.random() < 0.5:
        lines += ["class Late:", "    def __del__(self, sleep=time.sleep): sleep(0.003)", "late = Late()"]
    end, status, said = rng.choice(LATE_ENDS)
    return "\n".join([*lines, end]), status, said


@pytest.mark.outside
@pytest.mark.parametrize("seed", range(1, 5))
def test_shutdowns_while_daemons_run(seed):
    end_well(busy_shutdown_program, seed, 10)


# Every OS thread begins late, and the process is there for a while after the interpreter has gone.
LATE = """
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <pthread.h>
    #include <stdlib.h>
    #include <unistd.h>
    struct start { void *(*fn)(void *); void *arg; };
    static void *run(void *p)
    {
        struct start s = *(struct start *)p;
        usleep(atoi(getenv("LATE_US")));
        return s.fn(s.arg);
    }
    int pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
    {
        int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) = dlsym(RTLD_NEXT, "pthread_create");
        struct start *s = malloc(sizeof *s);
        *s = (struct start){fn, arg};
        return real(t, a, run, s);
    }
    __attribute__((destructor)) static void stay(void) { usleep(100000); }
"""


@pytest.mark.outside
@pytest.mark.parametrize("start", ["fibril.os_thread(print, daemon=True)", "fibril._fibril._preempt(50)",
                                   "fibril.spawn(fibril.offload, print, daemon=True); fibril.yield_()"])
def test_an_os_thread_that_begins_when_the_process_ends(tmp_path, start):
    source, library = tmp_path / "late.c", tmp_path / "late.so"
    source.write_text(textwrap.dedent(LATE))
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-pthread"], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    preload = " ".join([*filter(None, [os.environ.get("LD_PRELOAD")]), str(library)])
    for late_us in ("1000", "20000", "50000"):
        env = dict(os.environ, LD_PRELOAD=preload, LATE_US=late_us)
        done = helpers.python("-m", "fibril", "-c", f"import fibril, time\nfor _ in range(10): {start}", env=env)
        assert (done.returncode, done.stderr) == (0, ""), late_us


@pytest.mark.outside
def test_the_process_waits_for_os_threads_and_for_what_those_spawn():
    done = helpers.python("-m", "fibril", "-c", """if True:
        import fibril, time
        def real():
            time.sleep(0.05)
            fibril.spawn(say, "spawned by it")
            print("real", flush=True)
        def say(text):
            fibril.sleep(0.01)
            print(text, flush=True)
            fibril.os_thread(print, "and one more", flush=True)
        fibril.os_thread(real)
        """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "real\nspawned by it\nand one more\n", "")


@pytest.mark.outside
def test_a_forked_child_does_not_wait_for_what_stayed_behind():
    done = helpers.python("-m", "fibril", "-c", """if True:
        import fibril, os, sys, time
        fibril.spawn(fibril.sleep, 0.1)
        fibril.os_thread(time.sleep, 0.1)
        time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            fibril.spawn(print, "child", flush=True)
            fibril.os_thread(time.sleep, 0.01)
            sys.exit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """)
    assert (done.returncode, done.stdout) == (0, "child\n5\n")
    assert "Traceback" not in done.stderr  # 3.12 and later warn that there were threads


# ---- leaks -------------------------------------------------------------------------------------------


def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grows(work, n):
    """Bytes of memory, and objects that the collector knows, by which each of n pieces of work makes the process
    grow. The smaller of two measurements: what is kept for reuse grows only once."""
    found = []
    work(n)
    for _ in range(2):
        gc.collect()
        objects, bytes_ = len(gc.get_objects()), resident()
        work(n)
        gc.collect()
        found.append(((resident() - bytes_) / n, (len(gc.get_objects()) - objects) / n))
    return min(found)


@pytest.mark.parametrize("kind", ["threading.Thread", "fibril.spawn", "raising", "cancelled", "never joined"])
def test_starting_and_joining_leaks_nothing(kind):
    def fail():
        raise ValueError

    def one():
        if kind == "threading.Thread":
            t = threading.Thread(target=int)
            t.start()
            t.join()
        elif kind == "fibril.spawn":
            fibril.spawn(int, "7").join()
        elif kind == "raising":
            with helpers.raises(ValueError):
                fibril.spawn(fail).join()
        elif kind == "cancelled":
            f = fibril.spawn(fibril.sleep, 1000)
            fibril.yield_()
            f.cancel()
            with helpers.raises(fibril.Cancelled):
                f.join()
        else:
            fibril.spawn(int)
            fibril.yield_()

    def work(n):
        for _ in range(n):
            one()

    bytes_, objects = grows(work, 10000)
    assert bytes_ < 16 and objects < 0.01, (bytes_, objects)


# ---- foreign threads ---------------------------------------------------------------------------------


def test_os_threads_and_fibrils_hammer_the_same_locks_and_queues():
    n, rounds = 20, 2000 if LONG else 300
    lock, rlock, condition = threading.Lock(), threading.RLock(), threading.Condition()
    jobs, done, channel = queue.Queue(10), queue.SimpleQueue(), fibril.Channel(5)
    semaphore, counts, inside = threading.BoundedSemaphore(3), dict.fromkeys("abcd", 0), []

    def hammer():
        for i in range(rounds):
            with lock:
                counts["a"] += 1
            with rlock, rlock:
                counts["b"] += 1
            with condition:
                counts["c"] += 1
                condition.notify()
            with semaphore:
                inside.append(1)
                assert len(inside) <= 3
                inside.pop()
            jobs.put(i)
            done.put(jobs.get())
            channel.send(i)
            channel.recv()

    fibrils = [threading.Thread(target=hammer) for _ in range(n)]
    os_threads = [fibril.os_thread(hammer) for _ in range(3)]
    for t in fibrils:
        t.start()
    for t in fibrils + os_threads:
        t.join()
    total = (n + 3) * rounds
    assert (counts["a"], counts["b"], counts["c"], done.qsize()) == (total,) * 4
    assert jobs.empty() and not inside


# ---- loading and enabling, in any order --------------------------------------------------------------

DRIVER = """
    #include <pthread.h>
    #include <unistd.h>
    static int ends[2];
    static void *writer(void *arg) { usleep(20000); return write(ends[1], arg, 1) == 1 ? arg : 0; }
    int wait_for_a_byte(void)
    {
        pthread_t t;
        char byte = 'x', got = 0;
        if (pipe(ends) || pthread_create(&t, 0, writer, &byte) || read(ends[0], &got, 1) != 1) return -1;
        return pthread_join(t, 0) || close(ends[0]) || close(ends[1]) ? -1 : got;
    }
"""


@pytest.mark.outside
@pytest.mark.parametrize("before", [True, False])
def test_an_object_loaded_before_or_after_enable(tmp_path, before):
    source, library = tmp_path / "driver.c", tmp_path / "driver.so"
    source.write_text(textwrap.dedent(DRIVER))
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-pthread"], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    load, enable = f"import ctypes; driver = ctypes.CDLL({str(library)!r})", "import fibril; fibril.enable()"
    first, second = (load, enable) if before else (enable, load)
    code = f"""{first}\n{second}
import threading, time
ticks = []
def tick():
    for _ in range(5):
        time.sleep(0.002)
        ticks.append(1)
t = threading.Thread(target=tick)
t.start()
assert driver.wait_for_a_byte() == ord("x")
assert len(ticks) > 0, "the driver blocked the others"
t.join()
"""
    done = helpers.python("-c", code)
    assert done.returncode == 0, done.stderr


EVERYTHING = ("asyncio concurrent.futures ctypes decimal hashlib http.client http.server json logging multiprocessing "
              "queue select selectors signal socket sqlite3 ssl subprocess tempfile threading urllib.request zlib")


@pytest.mark.outside
@pytest.mark.parametrize("order", ["before", "after", "between"])
def test_enable_before_and_after_everything_is_imported(order):
    imports = [f"import {name}" for name in EVERYTHING.split()]
    imports.insert({"before": 0, "after": len(imports), "between": len(imports) // 2}[order],
                   "import fibril; fibril.enable()")
    work = """
lock = threading.RLock()
q = queue.Queue()
def work(i):
    with lock, lock:
        time.sleep(0)
    a, b = socket.socketpair()
    b.sendall(b"x")
    assert select.select([a], [], [], 5)[0] == [a] and a.recv(1) == b"x"
    q.put(asyncio.run(asyncio.sleep(0.001, i)))
import os, time
with concurrent.futures.ThreadPoolExecutor(50) as pool:
    list(pool.map(work, range(100)))
assert sorted(q.get() for _ in range(100)) == list(range(100))
assert subprocess.run(["true"]).returncode == 0
assert len(os.listdir("/proc/self/task")) < 20
"""
    done = helpers.python("-c", "\n".join(imports) + work)
    assert (done.returncode, done.stderr) == (0, "")


# ---- processes ---------------------------------------------------------------------------------------


def test_fork_in_the_middle():
    """The child has one thread, in which everything still works; the parent goes on."""
    stop, counts = threading.Event(), [0]
    lock = threading.Lock()

    def busy():
        while not stop.is_set():
            with lock:
                counts[0] += 1
            time.sleep(0.0005)

    def child():
        seen = []
        assert threading.active_count() == 1
        run_all(lambda i: (time.sleep(0.001), seen.append(i)), [(i,) for i in range(20)])
        fibril.spawn(seen.append, 20).join()
        assert sorted(seen) == list(range(21))

    others = [threading.Thread(target=busy) for _ in range(50)]
    for t in others:
        t.start()
    for _ in range(200 if LONG else 20):
        time.sleep(0.001)
        with lock:
            pid = os.fork()
        if pid == 0:
            status = 1
            try:
                child()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    stop.set()
    for t in others:
        t.join()
    assert counts[0] > 50


def test_subprocesses_by_the_hundred():
    results = {}

    def run(i):
        done = subprocess.run(["sh", "-c", f"cat; echo {i}; exit {i % 100}"], input=b"in ", stdout=subprocess.PIPE,
                              check=False)
        results[i] = (done.stdout, done.returncode)

    n = 1000 if LONG else 200
    run_all(run, [(i,) for i in range(n)])
    assert results == {i: (b"in %d\n" % i, i % 100) for i in range(n)}


# ---- recursion ---------------------------------------------------------------------------------------


class Bottomless:
    """Recursions without end, each through C code."""

    def __repr__(self):
        return repr(self)

    def __getattr__(self, name):
        return getattr(self, name)

    def __eq__(self, other):
        return [self] == [other]

    def __hash__(self):
        return hash((self,))

    def __format__(self, spec):
        return f"{self:{spec}}"

    def __call__(self, *arguments):
        return self(*arguments)

    def __lt__(self, other):
        return min(self, other) is self

    @property
    def own(self):
        return self.own


def bottomless_map():
    return list(map(lambda _: bottomless_map(), [1]))


BOTTOMLESS = {
    "repr": lambda: repr(Bottomless()), "getattr": lambda: Bottomless().anything,
    "eq": lambda: Bottomless() == Bottomless(), "hash": lambda: hash(Bottomless()), "format": lambda: f"{Bottomless()}",
    "call": lambda: Bottomless()(1), "lt": lambda: Bottomless() < Bottomless(), "property": lambda: Bottomless().own,
    "map": bottomless_map, "partial": lambda: functools.partial(BOTTOMLESS["partial"])(),
    "eval": lambda: eval("again()", {"again": BOTTOMLESS["eval"]}),
}


@pytest.mark.parametrize("kind", sorted(BOTTOMLESS))
def test_recursion_without_end_is_an_error_in_a_thread_too(kind):
    outcomes = []

    def work():
        try:
            BOTTOMLESS[kind]()
        except RecursionError as error:
            outcomes.append(type(error))

    run_all(work, [(), ()])
    assert outcomes == [RecursionError] * 2
