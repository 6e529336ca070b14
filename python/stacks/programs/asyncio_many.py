# SPDX-License-Identifier: MIT
"""asyncio.run in many threads at once, each with streams, an executor and a subprocess-free select loop of its own."""
import asyncio
import time

from common import count, crowd


async def session(i):
    async def handle(reader, writer):
        while data := await reader.readline():
            await asyncio.sleep(0.02)
            writer.write(data[::-1])
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"hello %d\n" % i)
    blocked = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.1)
    line = await reader.read(100)
    await blocked
    writer.close()
    server.close()
    return line == (b"hello %d\n" % i)[::-1]


c = crowd(count(), lambda i: asyncio.run(session(i)))
c.report(right=sum(map(bool, c.results)))
