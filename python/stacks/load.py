# SPDX-License-Identifier: MIT
"""Many HTTP connections at once with one request each, from an asyncio program that runs beside the server.

    load.py PORT CONNECTIONS SECONDS     prints how many were answered right

Each request asks the server to sleep; all connections are open before the first request is sent.
"""
import asyncio
import json
import resource
import sys
import time


async def one(port, i, seconds, gate, opened):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    opened.append(i)
    await gate.wait()
    writer.write(b"GET /%d?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (i, seconds.encode()))
    head = await reader.readuntil(b"\r\n\r\n")
    want = b"/%d" % i
    body = await reader.readexactly(len(want))
    writer.close()
    return head.startswith(b"HTTP/1.1 200") and body == want


async def main(port, n, seconds):
    gate, opened = asyncio.Event(), []
    tasks = [asyncio.create_task(one(port, i, seconds, gate, opened)) for i in range(n)]
    end = time.monotonic() + 60
    while len(opened) < n and time.monotonic() < end and not any(t.done() for t in tasks):
        await asyncio.sleep(0.05)
    begun = time.monotonic()
    gate.set()
    results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 150)
    errors = [repr(r) for r in results if isinstance(r, Exception)]
    print(json.dumps({"right": sum(r is True for r in results), "opened": len(opened), "errors": len(errors),
                      "first_errors": errors[:3], "seconds": round(time.monotonic() - begun, 2)}))


hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
