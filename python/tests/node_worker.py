# SPDX-License-Identifier: MIT
"""The other process of test_actor_nodes.py: serves its actors to who started it, or at a path.

    node_worker.py [PATH]

What it reports goes to the file $NODE_WORKER_LOG.
"""

import logging
import os
import signal
import sys
import time

import fibril
from fibril import actors, nodes


class Odd(Exception):
    """An exception that can be pickled and not be read: its class takes more than a text."""

    def __init__(self, number, text):
        super().__init__(text)
        self.number = number


class Here:
    """A class that only this process knows, as __main__.Here."""

    def __init__(self, size=0):
        self.fill = b"x" * size


class Keeper(fibril.Actor):
    """Says and keeps what it is told."""

    def __init__(self):
        self.kept = []
        self.waiting = None

    def on_echo(self, *args, **kwargs):
        return args, kwargs

    def on_keep(self, what):
        self.kept.append(what)

    def on_kept(self):
        return self.kept

    def on_message(self, message):
        self.kept.append(message)

    def on_size(self, data):
        return len(data)

    def on_count_to(self, number):
        yield from range(number)

    def on_odd_stream(self):
        yield 1
        yield lambda: None

    def on_fail(self):
        raise ValueError("asked to")

    def on_refuse_oddly(self):
        raise actors.Refuse(Odd(7, "odd"))

    def on_here(self):
        return Here()

    def on_unsendable(self):
        return lambda: None

    def on_sleep(self, seconds):
        time.sleep(seconds)

    def on_ask(self, handle, *args):
        return handle.call(*args)

    def on_tell(self, handle, message):
        handle.send(message)

    def on_start(self, name=None, **options):
        return Keeper.start(name=name, **options)

    def on_link(self, handle):
        handle.link()

    def on_pid(self):
        return os.getpid()

    def on_later(self):
        self.waiting = self.defer()

    def on_reply_now(self, value):
        if self.waiting is not None:
            self.waiting.reply(value)
        return self.waiting is not None

    def on_hand_over(self, to):
        to.cast("answer_for", self.defer())

    def on_answer_for(self, caller):
        caller.reply("answered by another")

    def on_join_topic(self, topic):
        actors.join_topic(topic)

    def on_rss(self):
        with open("/proc/self/statm", encoding="ascii") as pages:
            return int(pages.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def on_die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def receiver():
    """A function that is an actor: echoes requests, and what it can read of messages."""
    numbers = actors.Pattern(lambda message: isinstance(message, int))
    while True:
        match actors.receive():
            case actors.Request("echo", (what,)) as request:
                request.reply(what)
            case actors.Request("next_number", (who,)) as request:
                who.send("waiting")
                request.reply(actors.receive(numbers, timeout=10))


def main():
    if "NODE_WORKER_LOG" in os.environ:
        logging.basicConfig(filename=os.environ["NODE_WORKER_LOG"])
    fibril.enable()
    Keeper.start(name="keeper")
    actors.spawn(receiver, name="receiver")
    if len(sys.argv) == 1:
        nodes.join_starter(name="a worker").join()
    else:
        with nodes.listen(sys.argv[1], name="a server"):
            fibril.sleep(120)


if __name__ == "__main__":
    main()
