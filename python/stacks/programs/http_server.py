# SPDX-License-Identifier: MIT
"""ThreadingHTTPServer with a handler that sleeps, and a crowd of urllib clients, in one process."""
import http.server
import threading
import time
import urllib.request

from common import count, crowd


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.3)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever).start()


def get(i):
    with urllib.request.urlopen("http://127.0.0.1:%d/%d" % (server.server_port, i), timeout=60) as r:
        return r.read().decode() == "/%d" % i


c = crowd(count(), get)
server.shutdown()
server.server_close()
c.report(right=sum(map(bool, c.results)))
