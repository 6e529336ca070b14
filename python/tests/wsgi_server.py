# SPDX-License-Identifier: MIT
"""Starts ``fibril serve`` as a process for a test, and talks to it."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE_S = 30  # beyond it a test has failed; nothing waits so long that works


def eventually(check, what):
    """The first true value of check(), asked again and again."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


class Server:
    """A running server; a context manager that ends it and leaves its exit status in `status`."""

    def __init__(self, app, *options, env=None, cwd=HERE, bind="127.0.0.1:0", wait=True):
        self.out = tempfile.TemporaryFile("w+")
        self.err = tempfile.TemporaryFile("w+")
        command = [sys.executable, "-m", "fibril.serve", app, *options]
        if bind:
            command += ["--bind", bind]
        self.process = subprocess.Popen(command, stdout=self.out, stderr=self.err, cwd=cwd,
                                        env={**os.environ, **(env or {})})
        self.status = None
        if wait:
            eventually(lambda: "serving" in self.output() or self.process.poll() is not None, "listening")
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}: {self.errors()}")

    @staticmethod
    def text(file):
        return os.pread(file.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def output(self):
        return self.text(self.out)

    def errors(self):
        return self.text(self.err)

    @property
    def port(self):
        return int(re.search(r"listening on http://.*:(\d+)/", self.output())[1])

    def workers(self):
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return sorted(int(word) for word in found.stdout.split())

    def connect(self, timeout=PATIENCE_S):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def http(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def get(self, path="/", method="GET", body=None, headers=()):
        """(status, headers, body) of one request on a connection of its own."""
        connection = self.http()
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def raw(self, data):
        """Everything that comes back for these bytes until the end of the connection."""
        with self.connect() as s:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            return receive_all(s)

    def end(self, signum=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(signum)
        try:
            self.status = self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            for pid in [*self.workers(), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            raise
        return self.status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.end()
        finally:
            self.out.close()
            self.err.close()


def receive_all(s):
    pieces = []
    while piece := s.recv(1 << 16):
        pieces.append(piece)
    return b"".join(pieces)
