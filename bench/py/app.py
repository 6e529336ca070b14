# SPDX-License-Identifier: MIT
"""The application that the WSGI servers serve, and its ASGI twin: the same bytes from all of them.

/hello answers at once; /slow?ms=M sleeps first, in the way of the server it runs under; /query asks PostgreSQL.
"""
import os
import threading
import time

HELLO = b"hello world\n"


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        ms = int(environ["QUERY_STRING"][3:])
        if ms:
            time.sleep(ms / 1000)
    elif path == "/query":
        query()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return [HELLO]


def query():
    """One query on a connection out of a pool of 32."""
    db = pool().getconn()
    try:
        with db.cursor() as cursor:
            cursor.execute("SELECT 'hello ' || 'world'")
            assert cursor.fetchone() == ("hello world",)
        db.commit()
    finally:
        pool().putconn(db)


class Pool:
    """Connections for whoever asks; who finds none waits for one to come back."""

    def __init__(self, most):
        import psycopg2
        self.connect = psycopg2.connect
        self.free, self.lock, self.left = [], threading.Lock(), threading.Semaphore(most)

    def getconn(self):
        self.left.acquire()
        with self.lock:
            if self.free:
                return self.free.pop()
        return self.connect(os.environ["BENCH_PG"])

    def putconn(self, db):
        with self.lock:
            self.free.append(db)
        self.left.release()


the_pool, pool_lock = [], threading.Lock()


def pool():
    if not the_pool:
        with pool_lock:
            if not the_pool:
                the_pool.append(Pool(32))
    return the_pool[0]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        import asyncio
        ms = int(scope["query_string"][3:])
        if ms:
            await asyncio.sleep(ms / 1000)
    await send({"type": "http.response.start", "status": 200,
                "headers": [(b"content-type", b"text/plain"), (b"content-length", b"12")]})
    await send({"type": "http.response.body", "body": HELLO})
