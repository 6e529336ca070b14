# SPDX-License-Identifier: MIT
"""asyncio and blocking code side by side, both ways: event loops park like any other thread.

    python3 -m fibril examples/python/beside_asyncio.py
"""

import asyncio
import threading
import time

import fibril


async def tick(name, n, log):
    for _ in range(n):
        await asyncio.sleep(0.01)
        log.append(name)
    return name


def main():
    fibril.enable()
    log = []
    # Each of these threads runs an event loop of its own; all are on one OS thread.
    loops = [threading.Thread(target=lambda n=n: asyncio.run(tick(n, 3, log))) for n in range(20)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join()
    print(f"{len(log)} ticks of {len(set(log))} event loops")

    # A coroutine may wait for blocking code, and blocking code for a coroutine.
    async def wait_for_blocking_code():
        return await fibril.to_async(fibril.spawn(lambda: time.sleep(0.02) or "slept"))

    print("a coroutine waited:", asyncio.run(wait_for_blocking_code()))
    print("a fibril waited:", fibril.wait_for(tick("done", 1, log)))


if __name__ == "__main__":
    main()
