# SPDX-License-Identifier: MIT
"""Every benchmark: the programs it compares, what they are asked to do, and what fibril has to reach.

A bench yields one measurement at a time; run.py alternates between its programs. Each measurement returns rows
of {"case", "metric", "value"}. All values are costs: less is better.
"""
import os
import sys
import urllib.request

from programs import CORES, LOAD_CORE, Server, h2o, make_site, nginx, run_for_rows, wrk

PEERS = {"boost.context": "boost_context.cc", "boost.fiber": "boost_fiber.cc", "state-threads": "st.c",
         "go": "go_peer.go", "erlang": "erlang_peer.erl"}
POLLERS = ["uring", "epoll"]


class Target:
    """fibril's row `who` of a case must cost at most limit, times the peer `of` where one is named."""

    def __init__(self, case, who, limit, of=None):
        self.case, self.who, self.limit, self.of = case, who, limit, of

    def text(self):
        return "<= %g x %s" % (self.limit, self.of) if self.of else "<= %g" % self.limit


class Bench:
    """A name, what it measures, its reference (ratios in the table are to it), programs and targets.

    programs maps who to a function(ctx) that makes one measurement; most_runs bounds what takes long."""

    def __init__(self, name, title, ref, programs, targets=(), chart="bars", most_runs=99):
        self.name, self.title, self.ref, self.programs = name, title, ref, programs
        self.targets, self.chart, self.most_runs = list(targets), chart, most_runs


class Context:
    """What measurements share: the builder, a scratch folder, and how long to take."""

    def __init__(self, builder, scratch, quick):
        self.builder, self.scratch, self.quick = builder, scratch, quick
        self.seconds = 1 if quick else 3
        make_site(scratch)


def fitting(counts):
    """The counts of threads that the machine has memory for: the largest peer takes 9,000 bytes of each."""
    with open("/proc/meminfo") as f:
        available = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    fit = [n for n in counts if not n or n * 10000 < available]
    if len(fit) < len(counts):
        print("(not enough memory for more than %d threads)" % fit[-1], file=sys.stderr)
    return fit


# ---- micro -------------------------------------------------------------------------------------------

def peer_micro(who, bench, counts=(None,), quick=(None,)):
    def measure(ctx):
        argv = ctx.builder.peer_argv(PEERS[who])
        rows = []
        for n in fitting(quick if ctx.quick else counts):
            rows += run_for_rows(argv + [bench] + ([str(n)] if n else []))
        return rows
    return measure


def own_micro(bench, stack, counts=(None,), quick=(None,), more=(), core=None):
    def measure(ctx):
        exe = ctx.builder.own("micro")
        rows = []
        for n in fitting(quick if ctx.quick else counts):
            argv = [exe, bench] + ([str(n)] if n else []) + ["--stack", stack, *more]
            rows += run_for_rows(argv, core) if core else run_for_rows(argv)
        return rows
    return measure


def micro(name, title, ref, peers, targets, counts=(None,), quick=(None,), copied_counts=None, **kw):
    programs = {"fibril-own": own_micro(name, "own", counts, quick),
                "fibril-copied": own_micro(name, "copied", copied_counts or counts, copied_counts or quick)}
    programs.update({p: peer_micro(p, name, counts, quick) for p in peers})
    return Bench(name, title, ref, programs, targets, **kw)


# ---- actors ------------------------------------------------------------------------------------------

def actor(name, title, targets, stacks=("own", "copied"), core=None, quick=()):
    """One of bench/actor.c beside the same in Erlang."""
    def own(stack):
        return lambda ctx: run_for_rows([ctx.builder.own("actor"), name, *(quick if ctx.quick else ()), "--stack",
                                         stack], *((core,) if core else ()))

    def erlang(ctx):
        argv = ctx.builder.peer_argv(PEERS["erlang"]) + ["actor", name, *(quick if ctx.quick else ())]
        if core:  # a scheduler on each
            argv[argv.index("1:1")] = "2:2"
        return run_for_rows(argv, *((core,) if core else ()))

    programs = {"fibril-" + stack: own(stack) for stack in stacks}
    return Bench("actor_" + name, title, "erlang", {**programs, "erlang": erlang}, targets)


def actors():
    return [
        actor("ping", "round trip of two actors in one loop",
              [Target("round trip", "fibril-own", 0.25, "erlang")]),
        actor("ping2", "round trip of two actors on two loops, each on an OS thread of its own",
              [Target("round trip, processor", "fibril-own", 1, "erlang")], core=CORES),
        actor("link", "spawn an actor with a link, take its exit signal",
              [Target("spawn, exit", "fibril-own", 0.15, "erlang")]),
        actor("idle", "memory of an idle actor, page tables counted", [Target("100000", "fibril-copied", 600)]),
        actor("many", "one message from 1,000 senders to one receiver",
              [Target("1000 senders", "fibril-own", 0.5, "erlang")]),
        actor("selective", "choosing one message while 100,000 others wait",
              [Target("100000 to none", "fibril-own", 1.2)]),
        actor("restart", "one of 10,000 children killed and started again by its supervisor",
              [Target("kill, restart", "fibril-own", 5)], stacks=("own",)),
    ]


# ---- posix -------------------------------------------------------------------------------------------

def posix(ctx):
    return run_for_rows([ctx.builder.own("posix"), "20" if ctx.quick else "60"])


POSIX_CALLS = ("mutex lock and unlock", "recursive mutex lock and unlock", "cond signal", "getspecific", "self",
               "sem post and wait")


def posix_targets():
    """Under 3 ns a call; most cases make two."""
    return [Target(f"{call} without a loop, more", "fibril", 6 if " and " in call else 3) for call in POSIX_CALLS]


# ---- echo --------------------------------------------------------------------------------------------

def echo(start):
    def measure(ctx):
        client, rows = ctx.builder.own("echo_client"), []
        for connections in (64, 1000):
            with Server(start(ctx.builder)) as s:
                r = run_for_rows([client, str(s.port), str(connections), str(ctx.seconds), str(s.pid)], LOAD_CORE)[0]
            rows.append({"case": str(connections), "metric": "us", "value": r["us"]})
        return rows
    return measure


def echo_programs():
    own = {"fibril-" + p: echo(lambda b, p=p: [b.own("echo"), "--poller", p]) for p in POLLERS}
    raw = {"raw-" + p: echo(lambda b, p=p: [b.own("raw_%s_echo" % p)]) for p in POLLERS}
    peers = {w: echo(lambda b, w=w: b.peer_argv(PEERS[w]) + ["echo"]) for w in ("boost.fiber", "state-threads", "go")}
    return {**own, **raw, **peers}


# ---- HTTP --------------------------------------------------------------------------------------------

def http_fibril(poller):
    def start(ctx):
        argv = [ctx.builder.own("http_hello"), "127.0.0.1:0", os.path.join(ctx.scratch, "www")]
        return Server(argv, env={"FIBRIL_POLLER": poller})
    return start, "/hello", "/static/4k.txt"


HTTP = {
    **{"fibril-" + p: http_fibril(p) for p in POLLERS},
    "nginx": (lambda ctx: nginx(ctx.builder, ctx.scratch), "/hello", "/4k.txt"),
    "h2o": (lambda ctx: h2o(ctx.builder, ctx.scratch), "/hello.txt", "/4k.txt"),
    "go": (lambda ctx: Server(ctx.builder.peer_argv(PEERS["go"]) + ["http"]), "/hello", None),
}


def check_answer(server, path, want):
    """The compared servers must give the same body, or nothing is compared."""
    with urllib.request.urlopen("http://127.0.0.1:%d%s" % (server.port, path), timeout=5) as r:
        got = r.read()
    if got != want:
        raise RuntimeError("%s answered %r" % (path, got[:60]))


def http(who, cases, file=False, more=lambda ctx: ()):
    start, hello, static = HTTP[who]
    path = static if file else hello

    def measure(ctx):
        rows = []
        with open(os.path.join(ctx.scratch, "www", "4k.txt" if file else "hello.txt"), "rb") as f:
            body = f.read()
        for case, connections in cases:
            with start(ctx) as s:
                check_answer(s, path, body)
                before = s.cpu()
                url = "http://127.0.0.1:%d%s" % (s.port, path)
                n = wrk(ctx.builder, url, connections, ctx.seconds, more(ctx))
                rows.append({"case": case, "metric": "us", "value": (s.cpu() - before) * 1e6 / n})
        return rows
    return measure


def http_bench(name, title, who, cases, targets, **kw):
    return Bench(name, title, "nginx", {w: http(w, cases, **kw) for w in who}, targets)


def own_targets(cases, limit, refs):
    return [Target(c, "fibril-" + p, limit, r) for c in cases for p in POLLERS for r in refs]


# ---- 10,000 slow requests ----------------------------------------------------------------------------

def slow(who):
    start = HTTP[who][0]

    def measure(ctx):
        client = ctx.builder.own("slow")
        with start(ctx) as s:
            argv = [client, str(s.port), "10000", "2" if ctx.quick else "3", "1000", str(s.pid)]
            return run_for_rows(argv, LOAD_CORE)
    return measure


SLOW_TARGETS = [Target(case, "fibril-" + p, limit) for p in POLLERS for case, limit in
                (("requests lost", 0), ("one round", 1.3), ("memory per request", 6144),
                 ("memory per idle connection", 1024))]

GROWTH = (1000, 10000, 100000, 1000000)


def all_benches():
    hello = ["fibril-uring", "fibril-epoll", "nginx", "h2o", "go"]
    three = hello[:4]
    sched = ["boost.fiber", "state-threads", "go", "erlang"]
    raw = ["boost.context"]
    return [
        micro("switch", "one switch: a yield to the other of two threads", "boost.context", raw + sched,
              [Target("yield", "fibril-own", 2, "boost.context"),
               Target("yield", "fibril-copied", 4, "boost.context")]),
        micro("spawn", "spawn, run and join one thread", "boost.fiber", raw + sched,
              [Target("join", "fibril-own", 0.12, "boost.fiber")]),
        micro("channel", "round trip through two unbuffered channels", "boost.fiber", sched,
              [Target("round trip", "fibril-own", 0.2, "boost.fiber"),
               Target("round trip", "fibril-own", 0.25, "go")]),
        micro("parked", "memory of a parked thread, page tables counted", "boost.fiber", raw + sched,
              [Target("100000", "fibril-own", 4400), Target("100000", "fibril-copied", 300),
               Target("1000000", "fibril-copied", 400)],
              counts=(100000,), quick=(100000,), copied_counts=(100000, 1000000)),
        micro("sleepers", "processor time of one wake-up, 100,000 sleepers", "go", sched,
              [Target("100000", "fibril-own", 0.8, "go")], counts=(100000,), quick=(100000,)),
        Bench("posix", "covered calls beside libc's own, on an OS thread without a loop and on one", "fibril",
              {"fibril": posix}, posix_targets()),
        Bench("echo", "TCP echo of 64 bytes: server processor time per request, by connections", "raw-epoll",
              echo_programs(),
              [Target(c, "fibril-" + p, limit, "raw-" + p) for c, limit in (("64", 1.05), ("1000", 1.10))
               for p in POLLERS]),
        http_bench("hello", "HTTP hello, keep-alive: server processor time per request, by connections", hello,
                   [("64", 64), ("1000", 1000)], own_targets(("64", "1000"), 0.90, ["nginx"])),
        http_bench("pipelined", "HTTP hello, pipelined 16 deep, 64 connections", hello, [("16 deep", 64)],
                   own_targets(["16 deep"], 0.25, ["nginx"]),
                   more=lambda ctx: ("-s", os.path.join(ctx.scratch, "pipeline.lua"))),
        http_bench("static", "a file of 4 KiB, 64 connections", three, [("4 KiB", 64)],
                   own_targets(["4 KiB"], 0.80, ["nginx", "h2o"]), file=True),
        http_bench("close", "a new connection per request, 64 at a time", hello, [("close", 64)],
                   own_targets(["close"], 1.0, ["nginx"]), more=lambda ctx: ("-H", "Connection: close")),
        Bench("slow", "10,000 requests of one second each, at once, on keep-alive connections", "go",
              {w: slow(w) for w in ("fibril-uring", "fibril-epoll", "go")}, SLOW_TARGETS),
        micro("growth", "one turn among N threads that all yield", "boost.fiber", sched, [], counts=GROWTH,
              quick=(1000, 10000, 100000), chart="lines", most_runs=2),
        Bench("loops", "one yield, over all loops: 1,000 fibrils on each, one OS thread a loop", "fibril-own",
              {"fibril-own": own_micro("loops", "own", (1, 2), (1, 2), core=CORES)}, []),
        *actors(),
    ]
