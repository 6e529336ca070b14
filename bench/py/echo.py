# SPDX-License-Identifier: MIT
"""TCP echo servers, each as one writes it with that library. Prints the port.

    echo.py threads|gevent|eventlet|asyncio|uvloop

threads is the program of every introduction to sockets: a thread per connection that blocks in recv; under
`-m fibril` its threads are fibrils.
"""
import socket
import sys

BACKLOG, BYTES = 4096, 4096


def listener(module=socket):
    s = module.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", 0))
    s.listen(BACKLOG)
    print(s.getsockname()[1], flush=True)
    return s


def echo(s):
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        while data := s.recv(BYTES):
            s.sendall(data)
    except ConnectionError:
        pass
    finally:
        s.close()


def threads():
    import threading
    s = listener()
    while True:
        conn, _ = s.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


def gevent():
    from gevent import server, socket as green
    server.StreamServer(listener(green), lambda s, _: echo(s)).serve_forever()


def eventlet():
    import eventlet as e
    from eventlet.green import socket as green
    s = listener(green)
    while True:
        conn, _ = s.accept()
        e.spawn_n(echo, conn)


def asyncio(install=None):
    import asyncio as a
    if install:
        install()

    async def handle(reader, writer):
        try:
            while data := await reader.read(BYTES):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def main():
        server = await a.start_server(handle, sock=listener(), backlog=BACKLOG)
        await server.serve_forever()

    a.run(main())


def uvloop():
    import uvloop as u
    asyncio(u.install)


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]]()
    except ImportError as e:
        print(e, file=sys.stderr)
        sys.exit(77)
