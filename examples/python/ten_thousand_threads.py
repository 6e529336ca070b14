# SPDX-License-Identifier: MIT
"""Ten thousand threads that each wait for a socket and a second: the program knows nothing of fibril.

    python3 -m fibril examples/python/ten_thousand_threads.py 10000
"""

import socketserver
import sys
import threading
import time
from socket import create_connection


class Slow(socketserver.StreamRequestHandler):
    def handle(self):
        name = self.rfile.readline().strip()
        time.sleep(1)
        self.wfile.write(b"hello " + name + b"\n")


class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 4096
    daemon_threads = True


def ask(address, number, answers):
    with create_connection(address) as connection:
        connection.sendall(b"thread %d\n" % number)
        answers[number] = connection.makefile("rb").readline()


def main(count):
    with Server(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever).start()
        answers = [b""] * count
        begin = time.monotonic()
        threads = [threading.Thread(target=ask, args=(server.server_address, n, answers)) for n in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        right = sum(answer == b"hello thread %d\n" % n for n, answer in enumerate(answers))
        with open("/proc/self/status") as status:
            os_threads = next(line.split()[1] for line in status if line.startswith("Threads:"))
        print(f"{right} of {count} answers in {time.monotonic() - begin:.1f} s on {os_threads} OS threads")
        server.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
