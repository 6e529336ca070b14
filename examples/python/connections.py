# SPDX-License-Identifier: MIT
"""A pool: three connections for twenty who want one, and one of them breaks now and then.

    python3 examples/python/connections.py
"""

import itertools
import logging
import time

import fibril
from fibril import actors


class Connection(fibril.Actor):
    """Something that is dear to make, and that one at a time may use."""

    serial = itertools.count(1)

    def __init__(self, host):
        time.sleep(0.01)  # parks this actor, as a connect() would
        self.number = next(self.serial)
        self.host = host

    def on_query(self, n):
        time.sleep(0.005)
        if n == 13:
            raise ConnectionResetError("the peer is gone")
        return n * n


def ask(pool, n):
    try:
        return pool.call("query", n, timeout=10)
    except fibril.ActorFailed as failure:
        return type(failure.__cause__).__name__


def main():
    fibril.enable()
    logging.getLogger("fibril.actors").setLevel(logging.CRITICAL)  # the broken connection is reported there
    pool = actors.Pool(Connection, "db.example", size=2, overflow=1).start(name="connections")
    answers = [each.join() for each in [fibril.spawn(ask, pool, n) for n in range(10, 30)]]
    print(answers)
    with pool.worker(timeout=5) as connection:  # several calls to one and the same
        print(connection.call("query", 2), connection.call("query", 3))
    status = pool.counts()
    print("died:", status.died, "waiting:", status.waiting, "lent:", status.lent)


if __name__ == "__main__":
    main()
