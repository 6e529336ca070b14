# SPDX-License-Identifier: MIT
"""The Python benchmarks: fibril as threads (`-m fibril`, the program unchanged) and by its own API, beside its peers.

`bench/run.py python` runs all of them; each is also a bench of its own, called py-NAME. Peers are Debian's packages;
what Debian lacks is taken from build/bench/venv when that is there (see venv.txt), and skipped otherwise.
"""
import atexit
import contextlib
import os
import re
import subprocess
import sys
import tempfile

from benches import Bench, Target, check_answer
from programs import HELLO, LOAD_CORE, Missing, Server, free_port, pinned, run_for_rows, wrk

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PY = os.path.join(HERE, "py")
PYTHON = "/usr/bin/python3"
VENV = os.path.join(ROOT, "build", "bench", "venv", "bin")
FIBRIL = ("fibril-py", "fibril-thread")
# Who is compared, and what it is to the programs in bench/py: (fibril enabled, name there).
WHO = {"fibril-py": (True, "fibril"), "fibril-thread": (True, "threads"), "os-thread": (False, "threads"),
       "greenlet": (False, "greenlet"), "gevent": (False, "gevent"), "eventlet": (False, "eventlet"),
       "asyncio": (False, "asyncio"), "uvloop": (False, "uvloop")}


def package(ctx):
    path = os.path.join(ctx.builder.build_dir, "python")
    if not os.path.isdir(os.path.join(path, "fibril")):
        raise Missing("this build has no Python package")
    return path


def python(ctx, enabled):
    """(the command that runs a Python program, its environment)"""
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    if enabled:
        env["PYTHONPATH"] = package(ctx)
    return [PYTHON, "-m", "fibril"] if enabled else [PYTHON], env


# ---- micro -------------------------------------------------------------------------------------------

def micro(bench, who, n=None, quick=None):
    enabled, name = WHO[who]

    def measure(ctx):
        command, env = python(ctx, enabled)
        count = [str(quick if ctx.quick and quick else n)] if n else []
        env_words = ["%s=%s" % pair for pair in env.items()]
        return run_for_rows(["env", *env_words, *command, os.path.join(PY, "micro.py"), bench, name, *count])
    return measure


def micro_bench(bench, title, ref, whos, targets, counts=(None, None), fewer=()):
    """fewer: {who: count} for those who cannot make as many."""
    fewer = dict(fewer)
    programs = {w: micro(bench, w, fewer.get(w, counts[0]), counts[1]) for w in whos}
    return Bench("py-" + bench, title, ref, programs, targets)


def greenlets(bench, who, script="greenlets.py"):
    """In a plain process: greenlets need no loop."""
    def measure(ctx):
        env = ["env", "PYTHONDONTWRITEBYTECODE=1"]
        others = who in ("greenlet", "gevent")
        if not others:
            env.append("PYTHONPATH=" + package(ctx))
        exe = module(who) if others else PYTHON
        return run_for_rows([*env, exe, os.path.join(PY, script), bench, who])
    return measure


def tasklet_bench(bench, title, targets, whos=("fibril", "greenlet", "gevent")):
    """The figures of Stackless 3.7, an interpreter of its own, are the limits."""
    programs = {who: greenlets(bench, who, "tasklets.py") for who in whos}
    return Bench("py-tasklet-" + bench, title, whos[-1], programs, targets)


def greenlet_bench(bench, title, targets):
    programs = {who: greenlets(bench, who) for who in ("fibril", "fibril-own", "greenlet")}
    return Bench("py-greenlet-" + bench, title, "greenlet", programs, targets)


ACTORS = {"fibril": None, "pykka": "pykka", "pykka-proxy": "pykka", "thespian": "thespian", "thespian-tcp": "thespian"}


def actors(bench, who, counts, quick):
    def measure(ctx):
        newest = (os.path.join(VENV, "python3"), PYTHON)
        command, env = ([module(ACTORS[who], newest)], {}) if ACTORS[who] else python(ctx, True)
        words = ["%s=%s" % pair for pair in {**env, "BENCH_ID": "fibril-bench-%d" % os.getpid()}.items()]
        rows = []
        for n in (quick if ctx.quick else counts):
            rows += run_for_rows(["env", *words, *command, os.path.join(PY, "actors.py"), bench, who, *n])
        return rows
    return measure


def actor_bench(bench, title, targets, whos, counts=((),), quick=((),), fewer=()):
    """fewer: {who: counts} for those who cannot make as many."""
    programs = {w: actors(bench, w, dict(fewer).get(w, counts), dict(fewer).get(w, quick)) for w in whos}
    return Bench("py-actor-" + bench, title, "pykka", programs, targets)


# ---- servers -----------------------------------------------------------------------------------------

def echo_rows(ctx, command, env):
    client, rows = ctx.builder.own("echo_client"), []
    for connections in (64, 1000):
        with Server(command, env=env) as s:
            argv = [client, str(s.port), str(connections), str(ctx.seconds), str(s.pid)]
            r = run_for_rows(argv, LOAD_CORE)[0]
        rows.append({"case": str(connections), "metric": "us", "value": r["us"]})
    return rows


def echo(who):
    enabled, name = WHO[who]

    def measure(ctx):
        command, env = python(ctx, enabled)
        return echo_rows(ctx, [*command, os.path.join(PY, "echo.py"), name], env)
    return measure


def tool(name):
    """A program of Debian's or of the venv; Missing without."""
    for folder in ("/usr/bin", VENV):
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    raise Missing(name + " is not installed")


def module(name, exes=(PYTHON, os.path.join(VENV, "python3"))):
    """The Python that has this module: Debian's, else the venv's."""
    for exe in exes:
        if os.path.exists(exe) and not subprocess.run([exe, "-c", "import " + name], stderr=subprocess.DEVNULL,
                                                      check=False).returncode:
            return exe
    raise Missing(name + " is not installed")


def gunicorn_argv(port, *more):
    return ["-m", "gunicorn", "--chdir", PY, "-b", "127.0.0.1:%d" % port, "-w", "1", "--backlog", "4096",
            "--worker-connections", "20000", "--keep-alive", "75", "--timeout", "600", "--log-level", "critical", *more,
            "app:application"]


def serving(who, threads=64):
    """A function of ctx that starts this server of the application."""
    def start(ctx, more_env=None):
        port = free_port()
        command, env = python(ctx, who.startswith("fibril"))
        own = lambda name: [module(name), os.path.join(PY, "serve.py"), name, str(port)]
        argv = {
            "fibril-serve": lambda: [*command, "serve", "app:application", "--chdir", PY,
                                     "--bind", "127.0.0.1:%d" % port],
            "fibril-gunicorn": lambda: command + gunicorn_argv(port, "-k", "gthread", "--threads", str(threads)),
            # With a thousand OS threads it answers nobody; with as many as people give it, it does.
            "gunicorn-gthread": lambda: command + gunicorn_argv(port, "-k", "gthread", "--threads", "64"),
            "gunicorn-gevent": lambda: command + gunicorn_argv(port, "-k", "gevent", "-c",
                                                               os.path.join(PY, "gunicorn_gevent.py")),
            "gevent-pywsgi": lambda: [*command, os.path.join(PY, "serve.py"), "pywsgi", str(port)],
            "eventlet-wsgi": lambda: [*command, os.path.join(PY, "serve.py"), "eventlet", str(port)],
            "uvicorn-uvloop": lambda: [*command, "-m", "uvicorn", "--app-dir", PY, "--port", str(port),
                                       "--loop", "uvloop", "--backlog", "4096", "--no-access-log",
                                       "--log-level", "critical",
                                       "--timeout-keep-alive", "75", "app:asgi"],
            "bjoern": lambda: own("bjoern"),
            "fastwsgi": lambda: own("fastwsgi"),
            "granian": lambda: [tool("granian"), "--interface", "wsgi", "--port", str(port), "--working-dir", PY,
                                "--no-log", "--backlog", "4096", "app:application"],
        }[who]()
        return Server(argv, port, dict(env, **(more_env or {})))
    return start


def cpu_per_request(s, ctx, path, connections):
    before = s.cpu()
    n = wrk(ctx.builder, "http://127.0.0.1:%d%s" % (s.port, path), connections, ctx.seconds)
    return (s.cpu() - before) * 1e6 / n


def hello_rows(ctx, start):
    rows = []
    for connections in (64, 1000):
        with start(connections) as s:
            check_answer(s, "/hello", HELLO.encode())
            rows.append({"case": str(connections), "metric": "us",
                         "value": cpu_per_request(s, ctx, "/hello", connections)})
    return rows


def hello(who):
    return lambda ctx: hello_rows(ctx, lambda connections: serving(who, connections + 10)(ctx))


def gevent_argv(ctx, who, *argv):
    """(a program of gevent's on these greenlets, its environment). The venv's gevent, else Debian's, for both."""
    exe = module("gevent, greenlet", (os.path.join(VENV, "python3"), PYTHON))
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    if who == "greenlet":
        return [exe, os.path.join(PY, argv[0]), *argv[1:]], env
    env["PYTHONPATH"] = package(ctx)
    return [exe, os.path.join(PY, "on_fibril.py"), os.path.join(PY, argv[0]), *argv[1:]], env


def gevent_echo(who):
    def measure(ctx):
        argv, env = gevent_argv(ctx, who, "echo.py", "gevent")
        return echo_rows(ctx, argv, env)
    return measure


def gevent_hello(who):
    def measure(ctx):
        def start(connections):
            port = free_port()
            argv, env = gevent_argv(ctx, who, "serve.py", "pywsgi", str(port))
            return Server(argv, port, env)
        return hello_rows(ctx, start)
    return measure


UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1}


def percentile(text, which):
    found = re.search(r"^\s+%d(?:\.\d+)?%%\s+([0-9.]+)(us|ms|s)" % which, text, re.MULTILINE)
    if not found:
        raise RuntimeError("no percentile in what wrk says: " + text[-300:])
    return float(found.group(1)) * UNITS[found.group(2)]


def fairness(who):
    """How many times the median the slowest hundredth of the requests takes, at 1,000 connections."""
    def measure(ctx):
        with serving(who, 1010)(ctx) as s:
            check_answer(s, "/hello", HELLO.encode())
            argv = [ctx.builder.tool("wrk"), "-t1", "-c1000", "-d%ds" % ctx.seconds, "--latency", "--timeout", "30s",
                    "http://127.0.0.1:%d/hello" % s.port]
            text = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
                                  timeout=ctx.seconds + 60, preexec_fn=pinned(LOAD_CORE)).stdout
        median, p99 = percentile(text, 50), percentile(text, 99)
        if not median:
            raise RuntimeError("no request was answered")
        return [{"case": "p99 / median", "metric": "times", "value": p99 / median},
                {"case": "p99", "metric": "ms", "value": p99 * 1000}]
    return measure


def slow(who):
    def measure(ctx):
        with serving(who, 10010)(ctx) as s:
            check_answer(s, "/hello", HELLO.encode())
            argv = [ctx.builder.own("slow"), str(s.port), "10000", "2" if ctx.quick else "3", "1000", str(s.tree()[-1])]
            return run_for_rows(argv, LOAD_CORE)
    return measure


class Database:
    """One PostgreSQL for all measurements, away from the server's core; it ends with the run."""

    def __init__(self):
        self.address = None
        self.stack = contextlib.ExitStack()
        atexit.register(self.stack.close)

    def get(self):
        if not self.address:
            sys.path.insert(0, os.path.join(ROOT, "python", "stacks"))
            import servers
            folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="fibril-bench-pg-"))
            os.chmod(folder, 0o755)
            before = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {LOAD_CORE})
            try:
                self.address = self.stack.enter_context(servers.postgres(folder))[1]
            except servers.Missing as e:
                raise Missing(str(e)) from None
            finally:
                os.sched_setaffinity(0, before)
        return self.address


database = Database()


def query(who):
    def measure(ctx):
        with serving(who, 74)(ctx, {"BENCH_PG": database.get()}) as s:
            check_answer(s, "/query", HELLO.encode())
            return [{"case": "64", "metric": "us", "value": cpu_per_request(s, ctx, "/query", 64)}]
    return measure


def server_bench(name, title, ref, measure, whos, targets):
    return Bench("py-" + name, title, ref, {w: measure(w) for w in whos}, targets)


def python_benches():
    everybody = list(WHO)
    scheduled = [w for w in everybody if w != "greenlet"]
    wsgi = ["fibril-serve", "fibril-gunicorn", "gunicorn-gthread", "gunicorn-gevent", "gevent-pywsgi", "eventlet-wsgi",
            "uvicorn-uvloop", "granian", "bjoern", "fastwsgi"]
    waiting = [w for w in wsgi if w not in ("granian", "bjoern", "fastwsgi")]
    own = "fibril-serve"
    connections = ("64", "1000")
    return [
        micro_bench("switch", "one switch between two Python threads (threads: by two locks)", "greenlet", everybody,
                    [Target("a switch", "fibril-py", 0.35, "greenlet"), Target("a switch", "fibril-py", 0.06, "gevent"),
                     Target("a switch", "fibril-py", 0.02, "os-thread")]),
        micro_bench("spawn", "spawn, run and join one", "os-thread", everybody,
                    [Target("spawn and join", "fibril-thread", 0.4, "os-thread"),
                     Target("spawn and join", "fibril-py", 0.05, "gevent")]),
        micro_bench("queue", "round trip through two queues (fibril-py: channels)", "os-thread", scheduled,
                    [Target("round trip", "fibril-thread", 0.35, "os-thread"),
                     Target("round trip", "fibril-py", 0.06, "gevent")]),
        micro_bench("parked", "memory of one of 100,000 parked (10,000 OS threads), page tables counted", "gevent",
                    everybody, [Target("a parked thread", "fibril-py", 4600),
                                Target("a parked thread", "fibril-thread", 7000)],
                    (100000, 20000), {"os-thread": 10000}),
        micro_bench("sleepers", "processor time of 100,000 that sleep about a second", "asyncio",
                    [w for w in scheduled if w != "os-thread"],
                    [Target("100000 sleepers", w, 0.5, "asyncio") for w in FIBRIL], (100000, None)),
        greenlet_bench("switch", "one switch between two greenlets",
                       [Target("a switch", "fibril", 0.35, "greenlet")]),
        greenlet_bench("spawn", "make, run and end a greenlet",
                       [Target("spawn, run and end", "fibril", 0.1, "greenlet")]),
        greenlet_bench("parked", "memory of one of 100,000 greenlets suspended three calls deep",
                       [Target("a parked thread", "fibril", 1500)]),
        greenlet_bench("deep", "one switch between greenlets 200 Python calls deep",
                       [Target("deep / shallow", "fibril", 1.2)]),
        server_bench("gevent-echo", "TCP echo by gevent, on fibril's greenlets and on the package's", "greenlet",
                     gevent_echo, ["fibril", "greenlet"], [Target(c, "fibril", 1, "greenlet") for c in connections]),
        server_bench("gevent-pywsgi", "WSGI hello by gevent's pywsgi, on fibril's greenlets and on the package's",
                     "greenlet", gevent_hello, ["fibril", "greenlet"],
                     [Target(c, "fibril", 1, "greenlet") for c in connections]),
        tasklet_bench("schedule", "stackless.schedule(), 2 and 100 tasklets in turn",
                      [Target("schedule, of 2", "fibril", 61), Target("schedule, of 100", "fibril", 61)]),
        tasklet_bench("channel", "round trip through two channels", [Target("round trip", "fibril", 264)],
                      ("fibril", "gevent")),
        tasklet_bench("spawn", "make, run and end a tasklet", [Target("spawn, run and end", "fibril", 432)]),
        tasklet_bench("parked", "memory of one of 100,000 tasklets suspended three calls deep",
                      [Target("a parked thread", "fibril", 1500)]),
        tasklet_bench("million", "1,000,000 tasklets suspended three calls deep",
                      [Target("processor time of 1000000", "fibril", 2000),
                       Target("memory of 1000000", "fibril", 1600000000)], ("fibril",)),
        actor_bench("call", "a call of an actor and its reply; a cast, and that it was handled",
                    [Target("round trip", "fibril", 0.1, "pykka"), Target("round trip", "fibril", 600)], list(ACTORS)),
        actor_bench("idle", "memory of an idle actor, page tables counted, with what refers to it",
                    [Target("100000", "fibril", 3500)], ("fibril", "pykka", "thespian"),
                    (("10000",), ("100000",)), (("10000",),), {"pykka": (("2000",),)}),
        actor_bench("spawn", "start an actor, have it end, wait for that", [], ("fibril", "pykka", "thespian")),
        server_bench("echo", "TCP echo of 64 bytes: server processor time per request, by connections", "uvloop", echo,
                     [w for w in scheduled if w != "fibril-py"],
                     [Target(c, "fibril-thread", limit, of) for c in connections
                      for limit, of in ((1, "uvloop"), (0.7, "gevent"))]),
        server_bench("wsgi", "WSGI hello: server processor time per request, by connections", "gunicorn-gevent", hello,
                     wsgi, [Target(c, own, limit, of) for c in connections
                            for limit, of in ((1, "fastwsgi"), (1, "bjoern"), (0.1, "gunicorn-gevent"))]),
        server_bench("fair", "fairness: the slowest hundredth of requests at 1,000 connections", "gunicorn-gevent",
                     fairness, waiting, [Target("p99 / median", own, 5)]),
        server_bench("slow", "10,000 requests of one second each, at once, by WSGI", "gunicorn-gevent", slow,
                     [w for w in waiting if w != "gunicorn-gthread"],
                     [Target("requests lost", own, 0), Target("one round", own, 1.2),
                      Target("memory per request", own, 8192)]),
        server_bench("query", "a request that makes one query to PostgreSQL by psycopg2", "gunicorn-gthread", query,
                     ["fibril-serve", "fibril-gunicorn", "gunicorn-gthread", "gunicorn-gevent"],
                     [Target("64", own, 1 / 1.5, "gunicorn-gthread"), Target("64", own, 1, "gunicorn-gevent")]),
    ]
