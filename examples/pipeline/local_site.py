# SPDX-License-Identifier: MIT
"""The site that crawl.py crawls: made from a seed, served by the standard library's own server on a port of the
kernel's choice, in the same process. Each of its connections is a thread, and so a fibril.

It counts what a site would: how often each page was asked for, and how many requests were in its hands at once.
"""

import collections
import http.server
import random
import threading
import time

LINKS = 5  # of each page, beside those that make all of them reachable


class Site:
    """pages: how many (int). latency: seconds that each answer takes.

    broken: {page: how many times it answers 503 before it works}. hanging: {page: how many times it does not answer at
    all}. held: {page: a threading.Event, before which it does not answer}. most_in_flight (int), visits (Counter of
    pages): see above.
    """

    def __init__(self, pages, seed=1, latency=0.0, broken=(), hanging=(), held=()):
        self.pages = pages
        self.seed = seed
        self.latency = latency
        self.broken, self.hanging, self.held = dict(broken), dict(hanging), dict(held)
        self.visits = collections.Counter()
        self.in_flight = self.most_in_flight = 0
        self.server = None

    def links(self, page):
        """The pages that a page links to: its two children in a tree, and some at random."""
        chance = random.Random(f"{self.seed} {page}")
        tree = [child for child in (2 * page + 1, 2 * page + 2) if child < self.pages]
        return tree + [chance.randrange(self.pages) for _ in range(LINKS)]

    def unique_links(self):
        """How many different links all pages have (int)."""
        return len({(page, link) for page in range(self.pages) for link in self.links(page)})

    def body(self, page):
        items = "".join(f'<li><a href="/page/{link}">page {link}</a></li>\n' for link in self.links(page))
        return f"<!doctype html><title>page {page}</title>\n<ul>\n{items}</ul>\n".encode()

    # ---- answering ----

    def answer(self, handler):
        """Answers a request, which is in our hands until then."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            word, _, number = handler.path.strip("/").partition("/")
            if word != "page" or not number.isdecimal() or int(number) >= self.pages:
                handler.respond(404, b"there is no such page\n")
            else:
                self.answer_page(handler, int(number))
        finally:
            self.in_flight -= 1

    def answer_page(self, handler, page):
        self.visits[page] += 1
        if self.hanging.get(page, 0) >= self.visits[page]:
            handler.rfile.read(1)  # nothing, until the other side has given up
            handler.close_connection = True
            return
        time.sleep(self.latency)
        if page in self.held:
            self.held[page].wait()
        if self.broken.get(page, 0) >= self.visits[page]:
            handler.respond(503, b"not now\n")
        else:
            handler.respond(200, self.body(page))

    # ---- serving ----

    @property
    def url(self):
        """Of its first page."""
        return "http://%s:%d/page/0" % self.server.server_address

    def __enter__(self):
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # so that a fetcher can keep its connection
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self):  # the name is the standard library's
                site.answer(self)

            def respond(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle(self):
                try:
                    super().handle()
                except OSError:  # the other side has gone, as clients may
                    self.close_connection = True

            def log_message(self, *words):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True, name="site").start()
        return self

    def __exit__(self, *exc_info):
        self.server.shutdown()
        self.server.server_close()
