# SPDX-License-Identifier: MIT
"""Threads whose tasklets wait, switch, throw and kill at random; prints "ok" when all have come to their end.

    stackless_stress.py SEED
"""

import random
import socket
import sys
import threading
import time

import fibril
from fibril import stackless

ROUNDS, TASKLETS = 400, 40


class World:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.channel = stackless.channel()
        self.pair = socket.socketpair()
        self.tasklets = []

    def wait(self):
        what = self.random.randrange(4)
        if what == 0:
            time.sleep(self.random.random() * 0.001)
        elif what == 1:
            fibril.sleep(0.0005)
        elif what == 2:
            self.pair[1].send(b"x")
            self.pair[0].recv(1)
        else:
            sorted(range(3), key=lambda x: stackless.schedule() and x)

    def meet(self):
        if self.channel.balance < 0:
            self.channel.send(None)
        else:
            self.channel.receive()

    def attack(self):
        victim = self.random.choice(self.tasklets)
        if victim.alive and self.random.random() < 0.5:
            victim.kill(pending=self.random.random() < 0.5)
        elif victim.alive:
            victim.throw(ValueError, "v", pending=self.random.random() < 0.5)

    def body(self):
        try:
            for _ in range(self.random.randrange(1, 8)):
                self.random.choice((self.wait, self.wait, self.meet, self.attack, stackless.schedule))()
        except (ValueError, RuntimeError):
            pass
        finally:
            if self.random.random() < 0.2:
                time.sleep(0.0005)

    def run(self):
        for _ in range(ROUNDS):
            self.tasklets = [t for t in self.tasklets if t.alive]
            while len(self.tasklets) < TASKLETS:
                self.tasklets.append(stackless.tasklet(self.body)())
            try:
                stackless.run()
            except (ValueError, RuntimeError):  # of a finally clause, or one that had not begun
                pass


def join(thread):
    while thread.is_alive():
        try:
            thread.join()
        except (ValueError, RuntimeError):
            pass


def main(seed):
    threads = [threading.Thread(target=World(10 * seed + i).run) for i in range(3)]
    for thread in threads:
        thread.start()
    World(seed).run()
    for thread in threads:
        join(thread)
    print("ok")


if __name__ == "__main__":
    main(int(sys.argv[1]))
