#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What ``./dev demo`` runs: serves demo_site.py, a plain WSGI application, with ``fibril serve``, sends it 10,000
requests of one second each, all at once, from another process, prints one table and serves on.
"""

import argparse
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SPARE_DESCRIPTORS = 100


def arguments():
    p = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    p.add_argument("--exit", action="store_true", help="end after the table")
    p.add_argument("--bind", default="127.0.0.1:8080", help="serve here (127.0.0.1:8080)")
    p.add_argument("--connections", type=int, default=10000, help="each with one request in flight (10000)")
    p.add_argument("--rounds", type=int, default=1, help="requests that each connection sends (1)")
    p.add_argument("--poller", choices=["auto", "uring", "epoll"], default=os.environ.get("FIBRIL_POLLER", "auto"))
    p.add_argument("--fibril", default="fibril", help="the command fibril, which makes the load")
    options = p.parse_args()
    if not 1 <= options.connections <= 1000000 or not 1 <= options.rounds <= 1000:
        p.error("--connections wants 1 to 1000000, --rounds 1 to 1000")
    return options


def fit_descriptors(options):
    """Both processes need a descriptor for each connection."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if options.connections > hard - SPARE_DESCRIPTORS:
        print(f"a process may open {hard} descriptors here (ulimit -Hn): "
              f"{hard - SPARE_DESCRIPTORS} connections instead of {options.connections}")
        options.connections = hard - SPARE_DESCRIPTORS


def start_server(options):
    """(process, address, its first lines)."""
    most = options.connections + 1000
    command = [sys.executable, "-m", "fibril", "serve", "demo_site:app", "--chdir", HERE, "--bind", options.bind,
               "--poller", options.poller, "--drain", "1",
               "--limits", f"connections_max={most},handlers_max={most},first_byte_s=60"]
    env = {**os.environ, "DEMO_CONNECTIONS": str(options.connections), "FIBRIL_COMMAND": options.fibril,
           "FIBRIL_POLLER": options.poller}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    for line in server.stdout:
        found = re.search(r"listening on http://(.*)/", line)
        if found:
            return server, found[1]
    raise SystemExit(server.wait() or 1)


def ask(address, path):
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


class Progress:
    """One line that is written over on a terminal, a plain line a second elsewhere."""

    def __init__(self):
        self.tty = sys.stdout.isatty()
        self.began = self.told = time.monotonic()

    def show(self, opened, in_flight, answered, failed):
        now = time.monotonic()
        if not self.tty and now - self.told < 1:
            return
        self.told = now
        text = (f"opened {opened:,}   in flight {in_flight:,}   answered {answered:,}   failed {failed:,}   "
                f"{now - self.began:.1f} s")
        print(f"\r\033[K{text}" if self.tty else text, end="" if self.tty else "\n", flush=True)

    def end(self):
        print("\r\033[K" if self.tty else "", end="", flush=True)


def run_load(options, address):
    """(answered, failed, seconds of each round, what the first failure was)."""
    command = [options.fibril, "demo-load", address, "1000", str(options.connections), str(options.rounds),
               options.poller]
    answered = failed = 0
    seconds, why, progress = [], "", Progress()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
        for line in load.stdout:
            kind, *words = line.split(maxsplit=1)
            if kind == "progress":
                progress.show(*map(int, words[0].split()))
            elif kind == "round":
                a, f, ns = map(int, words[0].split())
                answered, failed = answered + a, failed + f
                seconds.append(ns / 1e9)
            elif kind == "why":
                why = words[0].strip()
    progress.end()
    failed += options.connections * (options.rounds - len(seconds))
    return answered, failed, seconds, why


def table(figures, answered, failed, seconds, why):
    def row(name, value, meaning=""):
        print(f"  {name:25} {value:>12}   {meaning}".rstrip())

    print()
    row("concurrent at the peak", f"{figures['peak']:,}", "requests, each in time.sleep(1), counted by the application")
    row("answered", f"{answered:,}", "complete and correct")
    row("failed", f"{failed:,}", why)
    for i, each in enumerate(seconds[:10]):
        row(f"seconds, round {i + 1}" if len(seconds) > 1 else "seconds", f"{each:.3f}",
            "at the client, first request sent to last answer read")
    row("memory per request", f"{figures['bytes_each']:,}" if figures["bytes_each"] else "-",
        "bytes of user memory in the server, page tables included")
    row("OS threads", figures["threads"], "of the server, at the peak")
    row("application", "plain WSGI", f"under CPython {sys.version.split()[0]}: examples/wsgi/demo_site.py")
    print(flush=True)


def main():
    options = arguments()
    fit_descriptors(options)
    server, address = start_server(options)
    try:
        print(f"listening on http://{address}/")
        print(f"sending GET /slow?ms=1000 on {options.connections} connections at once, from another process",
              flush=True)
        ask(address, "/begin")
        answered, failed, seconds, why = run_load(options, address)
        table(ask(address, "/figures.json"), answered, failed, seconds, why)
        if not options.exit:
            print(f"open http://{address}/ in a browser (Ctrl-C ends)", flush=True)
            server.wait()
    except KeyboardInterrupt:
        return 0 if not options.exit else 1
    finally:
        if server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait()
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    sys.exit(main())
