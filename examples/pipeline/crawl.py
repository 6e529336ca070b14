#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A crawler as a pipeline of actors: frontier -> fetchers -> parser -> store -> frontier.

    python3 examples/pipeline/crawl.py [--pages 2000] [--fetchers 16] [--latency 0.02] [--broken 20] [--hanging 5]
                                       [--kill 0] [--seed 1]

It needs fibril on PYTHONPATH and `requests`, which is used as it is: its calls block, and park one fetcher. The site
(local_site.py) is served by the same process. What to look at:

Back-pressure. The mailboxes of parser and store are bounded, and who finds one full waits. A slow store so fills its
mailbox, then the parser waits, then its mailbox fills, then the fetchers wait, and then nobody asks the frontier for
another page: no queue grows. The frontier never waits for anybody, which is why the circle cannot lock up: it only
replies, and replies need no room. There are never more requests under way than there are fetchers.

Failure. The frontier knows who holds each page: a fetcher until the parser has it, then the parser until the store has
said that it is stored. It monitors both, and a page whose holder has ended goes to somebody else. So any of them may be
killed at any moment (--kill does that) and nothing is lost; a page may then be fetched twice, and is stored once. What
answers wrongly, or not within the page's deadline, is tried again later, with twice the deadline, up to TRIES times.

Supervision. Store and frontier have state, so what comes after one of them is started anew when it fails
("rest_for_one"); the workers have none, and are started again one by one.
"""

import argparse
import collections
import heapq
import html.parser
import random
import sys
import time
import urllib.parse
from typing import NamedTuple

import fibril
from fibril import actors
from local_site import Site

try:
    import requests
except ImportError:
    sys.exit("this example needs the package requests (Debian: apt install python3-requests)")

TRIES = 5
FIRST_DEADLINE = 1.0  # seconds for the first try of a page
RETRY_PAUSE = 0.05  # seconds before the second; doubled each time
MAILBOX = 16  # messages that may wait for the parser, the store and the frontier
TICK_SECONDS = 0.05


class Measured(fibril.Actor):
    """Knows the greatest length that its mailbox has had, behind the message in hand."""

    def __init__(self):
        self.greatest = 0

    def measure(self):
        self.greatest = max(self.greatest, actors.waiting())

    def on_greatest(self):
        return self.greatest


# ---- the frontier --------------------------------------------------------------------------------------


class Page:
    """What the frontier knows of a page that has been seen."""

    __slots__ = ("done", "holder", "tries")

    def __init__(self):
        self.tries = 0  # that have failed
        self.holder = None  # the actor that has it; None: it waits here, or is done
        self.done = False


class Progress(NamedTuple):
    """Published on the topic "progress"."""

    stored: int
    seen: int
    given_up: int
    finished: bool


class Frontier(Measured):
    """Who has seen which page, and who holds it."""

    def __init__(self, first):
        super().__init__()
        self.pages = {}
        self.to_do = collections.deque()
        self.later = []  # a heap of (when, page), to be tried again
        self.hungry = collections.deque()  # the callers and fetchers that wait for a page
        self.watched = {}  # the ref of the monitor by actor
        self.stored, self.given_up = 0, []
        self.see([first])

    def see(self, urls):
        for url in urls:
            if url not in self.pages:
                self.pages[url] = Page()
                self.to_do.append(url)

    # ---- fetchers ----

    def on_next(self, fetcher):
        """A fetcher asks for a page: (url, seconds that it may take). It waits until there is one."""
        self.measure()
        self.hungry.append((self.defer(), fetcher))
        self.feed()

    def on_fetched(self, url, parser):
        """The parser has it, or will: it holds the page now."""
        self.measure()
        self.hold(url, parser)

    def on_failed(self, fetcher, url, why):
        """The page did not answer as it should. It is tried again, or given up."""
        self.measure()
        page = self.pages[url]
        if page.holder != fetcher:
            return  # one that has ended since, and somebody else has the page
        page.holder = None
        page.tries += 1
        if page.tries < TRIES:
            heapq.heappush(self.later, (time.monotonic() + RETRY_PAUSE * 2 ** page.tries, url))
        else:
            page.done = True
            self.given_up.append((url, why))

    def feed(self):
        """Gives pages to those who wait for one, as long as there are both."""
        while self.hungry and self.to_do:
            url = self.to_do.popleft()
            page = self.pages[url]
            if page.done or page.holder:
                continue  # it came back when its holder ended, and had been stored all the same
            caller, fetcher = self.hungry.popleft()
            if fetcher.alive:
                self.hold(url, fetcher)
                caller.reply((url, FIRST_DEADLINE * 2 ** page.tries))
            else:
                self.to_do.appendleft(url)

    def hold(self, url, holder):
        page = self.pages[url]
        if not page.done:
            page.holder = holder
            if holder not in self.watched:
                self.watched[holder] = actors.monitor(holder)  # Down comes at once if it has ended

    def on_down(self, down):
        """Somebody has ended: what they held goes to others."""
        self.watched.pop(down.actor, None)
        for url, page in self.pages.items():
            if page.holder == down.actor:
                page.holder = None
                self.to_do.append(url)
        self.feed()

    # ---- the store ----

    def on_stored(self, url, links):
        self.measure()
        page = self.pages[url]
        if not page.done:
            page.done = True
            page.holder = None
            self.stored += 1
        self.see(links)
        self.feed()

    # ---- time ----

    def on_tick(self):
        self.measure()
        while self.later and self.later[0][0] <= time.monotonic():
            self.to_do.append(heapq.heappop(self.later)[1])
        self.feed()
        actors.publish("progress", self.progress(), timeout=0)

    def progress(self):
        finished = self.stored + len(self.given_up) == len(self.pages)
        return Progress(self.stored, len(self.pages), len(self.given_up), finished)

    def on_given_up(self):
        return self.given_up

    def describe(self):
        return f"{self.progress()}, to do {len(self.to_do)}, hungry {len(self.hungry)}"


# ---- the workers ---------------------------------------------------------------------------------------


def fetch(frontier_name, parser_name):
    """A fetcher: a function that is an actor, since it only asks. It ends with its supervisor."""
    me = actors.me()
    actors.join_topic("fetchers")
    with requests.Session() as session:
        while True:
            frontier = reach(frontier_name)
            url, seconds = frontier.call("next", me)
            try:
                with fibril.timeout(seconds):  # for all of it, not for each of its waits
                    answer = session.get(url)
                    answer.raise_for_status()
            except (requests.RequestException, OSError) as error:
                frontier.cast("failed", me, url, f"{type(error).__name__}: {error}")
                continue
            parser = reach(parser_name)
            parser.cast("parse", url, answer.text)  # waits here while the parser has too much to do
            frontier.cast("fetched", url, parser)


def clock(frontier_name):
    """For the frontier. A timer's message would be dropped by a full mailbox; this one waits for room."""
    while True:
        fibril.sleep(TICK_SECONDS)
        reach(frontier_name).cast("tick")


def reach(name):
    """The actor of a name. While it is being started again there is none."""
    while (actor := actors.whereis(name)) is None:
        fibril.sleep(0.01)
    return actor


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        if tag == "a":
            self.found += [value for name, value in attributes if name == "href" and value]


class Parser(Measured):
    def __init__(self, store_name):
        super().__init__()
        self.store_name = store_name

    def on_parse(self, url, text):
        self.measure()
        links = Links()
        links.feed(text)
        targets = [urllib.parse.urljoin(url, link) for link in links.found]
        reach(self.store_name).cast("store", url, targets)


class Store(Measured):
    """What has been found. One for files would look the same: its handlers may block."""

    def __init__(self, frontier_name, pause=0.0):
        super().__init__()
        self.frontier_name = frontier_name
        self.pause = pause
        self.links = {}

    def on_store(self, url, targets):
        self.measure()
        if url not in self.links:
            self.links[url] = frozenset(targets)
            if self.pause:
                time.sleep(self.pause)
        reach(self.frontier_name).cast("stored", url, targets)

    def on_pages(self):
        return self.links

    def describe(self):
        return f"{len(self.links)} pages"


# ---- the whole -----------------------------------------------------------------------------------------


def tree(first, fetchers, mailbox=MAILBOX, store_pause=0.0):
    """The supervisor, as a description. The stages find each other by name, since any may be started again."""
    workers = actors.Supervisor(
        [actors.Child(clock, "frontier"),
         actors.Child(Parser, "store", name="parser", mailbox=mailbox),
         *(actors.Child(fetch, "frontier", "parser", id=f"fetcher {i}") for i in range(fetchers))],
        intensity=10 * fetchers, period=1, name="workers")
    return actors.Supervisor(
        [actors.Child(Store, "frontier", store_pause, name="store", mailbox=mailbox),
         actors.Child(Frontier, first, name="frontier", mailbox=mailbox),
         actors.Child(workers)],
        strategy="rest_for_one", intensity=3, period=10, name="crawl")


class Summary(NamedTuple):
    """What a crawl brought. links: {page's URL: the URLs that it links to}. greatest: {stage: length of mailbox}."""

    links: dict
    given_up: list
    greatest: dict
    seconds: float


def crawl(first, fetchers, on_progress=lambda progress: None, **options):
    """Crawl from this URL with so many fetchers. Returns a Summary; on_progress is called now and then."""
    begun = time.monotonic()
    actors.join_topic("progress")
    top = tree(first, fetchers, **options).start()
    watch = top.monitor()
    try:
        while True:
            match fibril.receive((Progress, actors.Down)):
                case Progress() as progress:
                    on_progress(progress)
                    if progress.finished:
                        break
                case actors.Down(ref=ref) as down if ref == watch:
                    raise RuntimeError(f"the crawl has failed: {down.reason}")
        stages = {name: actors.whereis(name) for name in ("frontier", "parser", "store")}
        return Summary(stages["store"].call("pages"), stages["frontier"].call("given_up"),
                       {name: stage.call("greatest") for name, stage in stages.items()}, time.monotonic() - begun)
    finally:
        actors.demonitor(watch)
        actors.leave_topic("progress")
        top.exit()
        top.join()
        while actors.waiting():  # what was published meanwhile is of no use to the next crawl
            fibril.receive()


# ---- the program ---------------------------------------------------------------------------------------


def options():
    parser = argparse.ArgumentParser(description="Crawls a site of its own by actors.")
    parser.add_argument("--pages", type=int, default=2000)
    parser.add_argument("--fetchers", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.02, help="seconds that the site takes to answer")
    parser.add_argument("--broken", type=int, default=20, help="pages that answer 503 once or twice")
    parser.add_argument("--hanging", type=int, default=5, help="pages that do not answer the first time")
    parser.add_argument("--kill", type=float, default=0, help="kill a fetcher each so many seconds")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    if min(chosen.pages, chosen.fetchers) < 1 or chosen.fetchers > 1000:
        parser.error("--pages wants 1 or more, --fetchers 1 to 1000")
    return chosen


def kill_fetchers(seconds, chance):
    """Any of them; their supervisor starts new ones."""
    while True:
        fibril.sleep(seconds)
        if fetchers := actors.members("fetchers"):
            chance.choice(fetchers).kill()


def show(progress):
    if sys.stdout.isatty():
        print(f"\r{progress.stored} of {progress.seen} pages stored, {progress.given_up} given up ", end="", flush=True)


def main():
    chosen = options()
    fibril.enable()
    last = chosen.pages - 1
    with Site(chosen.pages, chosen.seed, chosen.latency,
              broken={last - i: 1 + i % 2 for i in range(min(chosen.broken, last))},
              hanging={i: 1 for i in range(1, 1 + min(chosen.hanging, last))}) as site:
        killer = fibril.spawn(kill_fetchers, chosen.kill, random.Random(chosen.seed)) if chosen.kill else None
        summary = crawl(site.url, chosen.fetchers, show)
        if killer:
            killer.cancel()
    links = sum(len(targets) for targets in summary.links.values())
    if sys.stdout.isatty():
        print()
    print(f"{len(summary.links)} pages, {links} unique links, {len(summary.given_up)} pages given up, "
          f"{summary.seconds:.1f} s")
    print(f"requests: {sum(site.visits.values())}, at most {site.most_in_flight} at once, "
          f"for {chosen.fetchers} fetchers")
    print("greatest length of a mailbox: " + ", ".join(f"{name} {n}" for name, n in summary.greatest.items())
          + f", of {MAILBOX} allowed")
    for url, why in summary.given_up:
        print(f"given up: {url}: {why}")


if __name__ == "__main__":
    main()
