# SPDX-License-Identifier: MIT
"""The site of ``./dev demo`` as a plain WSGI application: /slow sleeps, /events streams, /load runs a program and
reads what it prints. Blocking calls everywhere, and nothing that knows of fibril.

Latencies go into buckets whose width grows with the value, one set for the present second. Memory for each request
is what the process grew by since before the first load, at the largest number of requests in flight so far.
"""

import json
import os
import re
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGE = os.path.join(ROOT, "cli", "site")
TYPES = {"index.html": "text/html; charset=utf-8", "style.css": "text/css; charset=utf-8",
         "page.js": "text/javascript; charset=utf-8", "chart.js": "text/javascript; charset=utf-8",
         "icon.svg": "image/svg+xml"}
PLAIN = [("Content-Type", "text/plain; charset=utf-8")]
LOAD_MAX = int(os.environ.get("DEMO_CONNECTIONS", "10000"))
SECONDS, TICK_S, FEWEST = 60, 0.05, 100


# ---- figures ---------------------------------------------------------------------------------------------------------


def process():
    """(bytes of resident memory and page tables, OS threads) of this process."""
    with open("/proc/self/status", encoding="ascii") as file:
        found = dict(line.split(":", 1) for line in file)
    kilobytes = sum(int(found[name].split()[0]) for name in ("VmRSS", "VmPTE"))
    return kilobytes * 1024, int(found["Threads"])


class Pulse:
    """What the page shows. It is touched by threads that give way only where they block: nothing is locked."""

    def __init__(self):
        self.in_flight = self.peak = self.answered = self.per_second = 0
        self.idle_bytes = self.peak_bytes = self.peak_at = 0
        self.threads = 1
        self.began = time.monotonic()
        self.second = 0
        self.points = [(0, 0.0, 0.0)] * SECONDS
        self.now = []
        self.recent = [0] * round(1 / TICK_S)

    def begin_peak(self):
        self.peak = self.in_flight
        used, self.threads = process()
        self.idle_bytes = self.idle_bytes or used

    def enter(self):
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def leave(self, began):
        self.in_flight -= 1
        self.answered += 1
        self.now.append(time.monotonic() - began)

    def end_second(self):
        times, self.now = sorted(self.now), []
        at = (lambda part: round(1000 * times[int(part * (len(times) - 1))], 3)) if times else lambda part: 0.0
        self.points = [*self.points[1:], (len(times), at(0.5), at(0.99))]
        self.second += 1

    def tick(self, number):
        self.recent[number % len(self.recent)], before = self.answered, self.recent[number % len(self.recent)]
        self.per_second = self.answered - before
        while self.second < int(time.monotonic() - self.began):
            self.end_second()
        if self.in_flight >= FEWEST and self.in_flight >= self.peak_at:
            used, threads = process()
            self.peak_bytes = used if self.in_flight > self.peak_at else max(used, self.peak_bytes)
            self.peak_at, self.threads = self.in_flight, max(threads, self.threads)

    def run(self):
        number = 0
        while True:
            number += 1
            self.tick(number)
            time.sleep(TICK_S)

    def figures(self):
        each = (self.peak_bytes - self.idle_bytes) // self.peak_at if self.peak_at else 0
        return {"in_flight": self.in_flight, "peak": self.peak, "per_second": self.per_second,
                "answered": self.answered, "bytes_each": each, "bytes_at": self.peak_at, "threads": self.threads,
                "second": self.second, "last": self.points[-1]}

    def past(self):
        version = ".".join(map(str, sys.version_info[:2]))
        return {"version": f"CPython {version}", "poller": os.environ.get("FIBRIL_POLLER", "auto"),
                "load_max": LOAD_MAX, "second": self.second, "points": self.points}


pulse = Pulse()
threading.Thread(target=pulse.run, daemon=True).start()


# ---- answers ---------------------------------------------------------------------------------------------------------


def milliseconds(query):
    """The number of ms=NUMBER, or None."""
    wanted = re.fullmatch(r"ms=([0-9]{1,5})", query)
    return int(wanted[1]) if wanted else None


def slow(environ, start_response):
    ms = milliseconds(environ["QUERY_STRING"])
    if ms is None:
        start_response("400 Bad Request", PLAIN)
        return [b"Say how long to wait: ms is a whole number of milliseconds, as in /slow?ms=1000.\n"]
    began = time.monotonic()
    pulse.enter()
    time.sleep(ms / 1000)
    start_response("200 OK", PLAIN)
    pulse.leave(began)
    return [b"waited %d ms\n" % ms]


def hello(environ, start_response):
    began = time.monotonic()
    pulse.enter()
    start_response("200 OK", PLAIN)
    pulse.leave(began)
    return [b"hello\n"]


def stream():
    def event(name, data):
        return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()

    yield event("past", pulse.past())
    while True:
        yield event("pulse", pulse.figures())
        time.sleep(0.25)


def events(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
    return stream()


def figures(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(pulse.figures()).encode()]


def begin_peak(environ, start_response):
    pulse.begin_peak()
    return figures(environ, start_response)


loading = threading.Lock()


def load(environ, start_response):
    """Sends that many requests to this very server, from another process."""
    wanted = re.fullmatch(r"requests=([0-9]{1,7})", environ["QUERY_STRING"])
    if not wanted or not 1 <= int(wanted[1]) <= LOAD_MAX:
        start_response("400 Bad Request", PLAIN)
        return [f"requests is a whole number from 1 to {LOAD_MAX}.\n".encode()]
    if environ.get("HTTP_SEC_FETCH_SITE", "same-origin") != "same-origin":
        start_response("403 Forbidden", PLAIN)
        return [b"Only the demo's own page may do that.\n"]
    if not loading.acquire(blocking=False):
        start_response("409 Conflict", PLAIN)
        return [b"A load is running already.\n"]
    try:
        pulse.begin_peak()
        address = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        program = os.environ.get("FIBRIL_COMMAND", "fibril")
        done = subprocess.run([program, "demo-load", address, "1000", wanted[1], "1", "auto"], stdout=subprocess.PIPE,
                              text=True, check=True)
    finally:
        loading.release()
    answered, failed, ns = re.search(r"round (\d+) (\d+) (\d+)", done.stdout).groups()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"peak": pulse.peak, "answered": int(answered), "failed": int(failed),
                        "seconds": round(int(ns) / 1e9, 3)}).encode()]


def page(environ, start_response):
    name = environ["PATH_INFO"].strip("/") or "index.html"
    if name not in TYPES or environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        start_response("404 Not Found", PLAIN)
        return [b"There is no such page.\n"]
    start_response("200 OK", [("Content-Type", TYPES[name]), ("Cache-Control", "no-cache")])
    return environ["wsgi.file_wrapper"](open(os.path.join(PAGE, name), "rb"))


ROUTES = {"/slow": slow, "/hello": hello, "/events": events, "/figures.json": figures, "/begin": begin_peak,
          "/load": load}


def app(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], page)(environ, start_response)
