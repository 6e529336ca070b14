# SPDX-License-Identifier: MIT
"""Applications that the WSGI tests serve."""

import hashlib
import io
import os
import sys
import tempfile
import threading
import time
from wsgiref.validate import validator

import fibril
import recursions

PLAIN = [("Content-Type", "text/plain")]


def hello(environ, start_response):
    start_response("200 OK", PLAIN)
    return [b"hello\n"]


valid = validator(hello)


@validator
def valid_echo(environ, start_response):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


@validator
def valid_lines(environ, start_response):
    stream = environ["wsgi.input"]
    lines = [stream.readline(), *stream.readlines(), *stream]
    environ["wsgi.errors"].write("a line of wsgi.errors\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", PLAIN)
    return (b"%d %s" % (len(line), line) for line in lines)


def environ_dump(environ, start_response):
    start_response("200 OK", PLAIN)
    return [repr({k: v for k, v in environ.items() if isinstance(v, (str, bool, tuple))}).encode()]


class Input:
    """Reads the body in the way that the path says."""

    ways = {
        "/read": lambda s: s.read(),
        "/none": lambda s: s.read(None),
        "/pieces": lambda s: b"|".join(iter(lambda: s.read(7), b"")),
        "/readline": lambda s: b"|".join(iter(s.readline, b"")),
        "/readline4": lambda s: b"|".join(iter(lambda: s.readline(4), b"")),
        "/readlines": lambda s: b"|".join(s.readlines()),
        "/hint": lambda s: b"|".join(s.readlines(1)),
        "/iterate": lambda s: b"|".join(s),
        "/mixed": lambda s: s.readline() + b"|" + s.read(3) + b"|" + s.read(),
        "/sum": lambda s: Input.digest(s),
        "/unread": lambda s: b"",
        "/zero": lambda s: s.read(0) + b"zero",
    }

    @staticmethod
    def digest(stream):
        h = hashlib.sha256()
        for piece in iter(lambda: stream.read(100000), b""):
            h.update(piece)
        return h.hexdigest().encode()

    def __call__(self, environ, start_response):
        body = self.ways[environ["PATH_INFO"]](environ["wsgi.input"])
        start_response("200 OK", PLAIN)
        return [body]


read_input = Input()


class Closing:
    """An iterable that says when it is closed."""

    def __init__(self, blocks, log):
        self.blocks, self.log = iter(blocks), log

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        with open(self.log, "a", encoding="ascii") as file:
            file.write("closed\n")


def numbers(count, pause=0.0):
    for i in range(count):
        if pause:
            fibril.sleep(pause)
        yield b"%d\n" % i


def fail_after(blocks):
    yield from blocks
    raise RuntimeError("after the first block")


def bodies(environ, start_response):
    """One kind of body for each path."""
    path, log = environ["PATH_INFO"], os.environ.get("CLOSE_LOG", os.devnull)
    if path == "/write":
        write = start_response("200 OK", PLAIN)
        write(b"one,")
        write(b"two,")
        return [b"three"]
    if path == "/late":  # start_response only with the first block
        def late():
            start_response("201 Created", PLAIN)
            yield b"late"
        return late()
    if path == "/never":
        return [b"no start_response"]
    if path == "/text":
        start_response("200 OK", PLAIN)
        return ["text"]
    if path == "/generator":
        start_response("200 OK", PLAIN)
        return Closing(numbers(5), log)
    if path == "/endless":
        start_response("200 OK", PLAIN)
        return Closing((b"x" * 10000 for _ in iter(int, 1)), log)
    if path == "/list":
        start_response("200 OK", PLAIN)
        return [b"a", b"", b"bc"]
    if path == "/empty":
        start_response("200 OK", PLAIN)
        return []
    if path == "/big":
        start_response("200 OK", PLAIN)
        return [b"0123456789" * 1000000]
    if path == "/short":
        start_response("200 OK", [*PLAIN, ("Content-Length", "10")])
        return [b"abc"]
    if path == "/long":
        start_response("200 OK", [*PLAIN, ("Content-Length", "3")])
        return [b"abcdef"]
    if path == "/long-generator":
        start_response("200 OK", [*PLAIN, ("Content-Length", "3")])
        return iter([b"ab", b"cdef", b"gh"])
    if path.startswith("/status/"):
        start_response(path[8:11] + " As Said", [])
        return [b"a body"] if path.endswith("body") else []
    if path == "/twice":
        start_response("200 OK", PLAIN)
        start_response("200 OK", PLAIN)
        return []
    if path == "/replaced":
        start_response("200 OK", [*PLAIN, ("X-First", "1"), ("Content-Length", "5")])
        try:
            raise ValueError("replaced")
        except ValueError:
            start_response("503 Sorry", [("X-Second", "2")], sys.exc_info())
        return [b"instead"]
    if path == "/too-late":
        write = start_response("200 OK", PLAIN)
        write(b"gone")
        try:
            raise ValueError("the reason")
        except ValueError:
            start_response("500 Too Late", [], sys.exc_info())
        return []
    if path == "/raise":
        raise RuntimeError("before start_response")
    if path == "/raise-started":
        start_response("200 OK", PLAIN)
        raise RuntimeError("after start_response")
    if path == "/raise-sent":
        start_response("200 OK", PLAIN)
        return Closing(fail_after([b"some", b"thing"]), log)
    if path == "/raise-known":
        start_response("200 OK", [*PLAIN, ("Content-Length", "100")])
        return Closing(fail_after([b"some"]), log)
    if path == "/exit":
        raise SystemExit("an application must not end the server")
    if path == "/slow":
        time.sleep(float(environ["QUERY_STRING"] or 1))
        start_response("200 OK", PLAIN)
        return [b"slow\n"]
    if path == "/headers":
        bad = {"crlf": ("X-A", "a\r\nX-B: b"), "name": ("X A", "a"), "wide": ("X-A", "\u20ac"), "hop": ("Upgrade", "x"),
               "zero": ("X-A", "a\0b"), "int": ("X-A", 1), "length": ("Content-Length", "-1"),
               "list": ["X-A", "a"]}[environ["QUERY_STRING"]]
        start_response("200 OK", [bad])
        return []
    if path == "/own":
        start_response("200 OK", [("Date", "yesterday"), ("Server", "mine"), ("Connection", "close")])
        return [b"own"]
    if path == "/latin":
        start_response("200 OK", [("X-Latin", "caf\xe9")])
        return [b""]
    start_response("404 Not Found", PLAIN)
    return [b"?"]


def files(environ, start_response):
    path = environ["PATH_INFO"]
    data = bytes(range(256)) * 4096
    if path == "/memory":
        file = io.BytesIO(data)
    else:
        file = tempfile.TemporaryFile()
        file.write(data)
        file.seek(1000 if path == "/middle" else 0)
    headers = [("Content-Length", "5000")] if path == "/part" else []
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](file, 4096)


def who(environ, start_response):
    start_response("200 OK", PLAIN)
    if environ["PATH_INFO"] == "/die":
        os.kill(os.getpid(), 9)
    if environ["PATH_INFO"] == "/hang":
        while True:
            pass
    if environ["PATH_INFO"] == "/eat":
        kept.append(b"x" * (64 << 20))
    if environ["PATH_INFO"] == "/sleep":
        fibril.sleep(1)
    return [b"%d %d" % (os.getpid(), generation())]


kept = []


def generation():
    """What a file said when it was first asked for in this process."""
    global said
    try:
        return said
    except NameError:
        path = os.environ.get("GENERATION")
        said = int(open(path, encoding="ascii").read()) if path else 0
        return said


generation()


def not_an_app():
    return hello


number = 7


def thread(environ, start_response):
    """Reads its input on a thread of its own, as upload libraries do."""
    found = []
    t = threading.Thread(target=lambda: found.append(environ["wsgi.input"].read()))
    t.start()
    t.join()
    start_response("200 OK", PLAIN)
    return found


def recursing(environ, start_response):
    """Recurses without end in the way that its path names."""
    kind = environ["PATH_INFO"][1:]
    if kind != "none":
        recursions.KINDS[kind]()
    start_response("200 OK", PLAIN)
    return [b'"fine"']


def waiting(environ, start_response):
    """Waits in the way that its path names, and says how that ended."""
    lock = threading.Lock()
    lock.acquire()
    ways = {"sleep": lambda: time.sleep(1000), "lock": lock.acquire, "event": lambda: threading.Event().wait(1000),
            "read": lambda: os.read(os.pipe()[0], 1)}
    way = environ["PATH_INFO"][1:]
    try:
        ways[way]()
        print(f"{way}: went on", file=sys.stderr, flush=True)
    except BaseException as error:
        print(f"{way}: {type(error).__name__}", file=sys.stderr, flush=True)
        raise
    start_response("200 OK", PLAIN)
    return [b""]
