# SPDX-License-Identifier: MIT
"""The loop of a game's server: every entity is a tasklet that acts once a tick, and scripts may wait for ticks."""

import sys

from fibril import stackless


class World:
    def __init__(self):
        self.now, self.waiting = 0, {}

    def sleep(self, ticks):
        """Parks the calling tasklet for so many ticks."""
        channel = self.waiting.setdefault(self.now + ticks, stackless.channel())
        channel.receive()

    def tick(self):
        self.now += 1
        channel = self.waiting.pop(self.now, None)
        while channel and channel.balance < 0:
            channel.send(None)
        stackless.run()


def monster(world, number, log):
    while True:
        world.sleep(1 + number % 3)
        log[number] += 1


def main(count, ticks=12):
    world, log = World(), [0] * count
    monsters = [stackless.tasklet(monster)(world, n, log) for n in range(count)]
    stackless.run()
    for _ in range(ticks):
        world.tick()
    print(sum(log[0::3]), sum(log[1::3]), sum(log[2::3]))
    for m in monsters:
        m.kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
