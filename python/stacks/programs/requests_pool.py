# SPDX-License-Identifier: MIT
"""urllib3's pool of 50 connections shared by a crowd, and a requests session each, against a keep-alive server."""
import http.server
import threading
import time

import requests
import urllib3

from common import count, crowd


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.02)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[::-1])

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096
    daemon_threads = True


server = Server(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever).start()
url = "http://127.0.0.1:%d/" % server.server_port
pool = urllib3.PoolManager(maxsize=50, block=True)


def post(i):
    want = str(i)[::-1]
    one = pool.request("POST", url, body=str(i)).data.decode()
    with requests.Session() as s:
        two = s.post(url, data=str(i), timeout=60).text
    return one == want and two == want


c = crowd(count(), post)
most = pool.connection_from_url(url).num_connections
pool.clear()
server.shutdown()
server.server_close()
c.report(right=sum(map(bool, c.results)), connections=most)
