#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Programs that know nothing of fibril, run as they are and with the layer preloaded: they must say the same.

    test_programs.py LIBFIBRIL_POSIX FIBRIL SERVER NO_PIE [THREADS_CC]

prints TAP. What differs must be the OS threads: preloaded, there is one.
"""
import os
import re
import resource
import selectors
import socket
import subprocess
import sys

CLIENTS = 2000
LIMIT_SECONDS = 60


def run(program, library, *args):
    env = dict(os.environ)
    if library:
        env["LD_PRELOAD"] = library
    done = subprocess.run([program, *args], env=env, capture_output=True, text=True, timeout=LIMIT_SECONDS)
    return done.returncode, done.stdout, done.stderr


def same_output(program, library):
    real, ours = run(program, None), run(program, library)
    if real[0] != 0:
        return "without the layer: %r" % (real,)
    return None if real == ours else "without %r, with %r" % (real, ours)


class Server:
    """The example server on a port of the kernel's choice."""

    def __init__(self, program, library):
        env = dict(os.environ)
        if library:
            env["LD_PRELOAD"] = library
        self.process = subprocess.Popen([program], env=env, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().split()[1])

    def os_threads(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return int(re.search(r"Threads:\s+(\d+)", f.read()).group(1))

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT_SECONDS)

    def ask(self, line):
        with self.connect() as s:
            s.sendall(line)
            return s.recv(100)

    def end(self):
        self.ask(b"stop\n")
        output = self.process.communicate(timeout=LIMIT_SECONDS)[0]
        return self.process.returncode, output


def answers_of(connections):
    """One line from each, in any order."""
    with selectors.DefaultSelector() as selector:
        for s in connections:
            selector.register(s, selectors.EVENT_READ)
        answers = []
        while len(answers) < len(connections):
            ready = selector.select(LIMIT_SECONDS)
            if not ready:
                raise RuntimeError("%d of %d answered" % (len(answers), len(connections)))
            for key, _ in ready:
                answers.append(key.fileobj.recv(100))
                selector.unregister(key.fileobj)
        return answers


def talk(program, library, clients):
    """All connect, wait at once and add at once. Returns what came of it, and the OS threads in between."""
    server = Server(program, library)
    connections = [server.connect() for _ in range(clients)]
    for s in connections:
        s.sendall(b"wait 200\n")
    waited = answers_of(connections)
    threads = server.os_threads()
    for i, s in enumerate(connections):
        s.sendall(b"add %d\n" % i)
    added = answers_of(connections)
    for s in connections:
        s.sendall(b"bye\n")
        s.close()
    return {"waited": set(waited), "lines": len(added), "end": server.end()}, threads


def serve_alike(program, library):
    clients = CLIENTS if resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= CLIENTS + 100 else 400
    expected = {"waited": {b"0\n"}, "lines": clients,
                "end": (0, "served %d, total %d\n" % (clients, clients * (clients - 1) // 2))}
    ours, threads = talk(program, library, clients)
    if ours != expected:
        return "preloaded: %r instead of %r" % (ours, expected)
    if threads > 8:
        return "preloaded, the server has %d OS threads" % threads
    real, threads = talk(program, None, 100)
    if real["lines"] != 100 or threads < 100:
        return "without the layer: %r on %d OS threads" % (real, threads)
    return None


def doctor(fibril):
    """The command says what was covered in a program, and refuses a static one."""
    code, _, told = run(fibril, None, "doctor", "--preload", sys.executable, "-c", "import socket")
    if code != 0 or "covered: " not in told or "may block" not in told:
        return "doctor --preload: %d, %r" % (code, told)
    code, here, _ = run(fibril, None, "doctor")
    if code != 0 or "poller" not in here or "POSIX layer  /" not in here:
        return "doctor: %d, %r" % (code, here)
    code, _, told = run(fibril, None, "doctor", "--preload", "no-such-program")
    return None if code == 2 and told.count("\n") == 1 else "doctor of no program: %d, %r" % (code, told)


def main():
    library, fibril, server, no_pie = sys.argv[1:5]
    tests = [("a_threaded_server_serves_%d_connections" % CLIENTS, serve_alike, server),
             ("a_program_at_a_fixed_address_says_the_same", same_output, no_pie),
             ("the_doctor_looks_into_a_program", lambda path, _: doctor(path), fibril)]
    if len(sys.argv) > 5:
        tests.append(("a_program_in_cxx_says_the_same", same_output, sys.argv[5]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("1..%d" % len(tests))
    for number, (name, test, program) in enumerate(tests, 1):
        why = test(os.path.abspath(program), os.path.abspath(library))
        print("%s %d - %s" % ("not ok" if why else "ok", number, name))
        if why:
            print("# " + why)


main()
