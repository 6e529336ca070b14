# SPDX-License-Identifier: MIT
"""examples/pipeline: every page is crawled once, nothing grows beyond its bound, and no failure loses a page."""

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import helpers
from fibril import actors

PIPELINE = Path(__file__).resolve().parents[2] / "examples" / "pipeline"
sys.path.insert(0, str(PIPELINE))
pytest.importorskip("requests")

import crawl  # noqa: E402
from local_site import Site  # noqa: E402

ISOLATED = True
PATIENT = 60  # seconds that a page may take where none is to be fetched twice


def complete(site, summary):
    """Whether just what the site has was found."""
    base = site.url.rpartition("/")[0]
    return summary.links == {f"{base}/{page}": frozenset(f"{base}/{link}" for link in site.links(page))
                             for page in range(site.pages)}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_page_is_crawled_once_and_no_bound_is_exceeded(seed):
    crawl.FIRST_DEADLINE = PATIENT
    with Site(120, seed) as site:
        summary = crawl.crawl(site.url, fetchers=5, mailbox=4)
        assert complete(site, summary) and not summary.given_up
        assert site.visits == dict.fromkeys(range(120), 1)
        assert 1 < site.most_in_flight <= 5
        assert all(0 < length <= 4 for length in summary.greatest.values()), summary.greatest
        assert sum(map(len, summary.links.values())) == site.unique_links()


def test_a_slow_store_holds_up_the_fetchers():
    crawl.FIRST_DEADLINE = PATIENT
    ahead = []
    with Site(80) as site:
        summary = crawl.crawl(site.url, 4, lambda progress: ahead.append(sum(site.visits.values()) - progress.stored),
                              mailbox=2, store_pause=0.01)
        assert complete(site, summary)
        assert summary.greatest["parser"] == summary.greatest["store"] == 2
        # One with each fetcher, two in each of three mailboxes, one in the hands of parser and store each; and what
        # happened while the news of it waited.
        assert 6 <= max(ahead) <= 4 + 3 * 2 + 2 + 4, ahead


def test_a_slow_page_does_not_hold_up_the_others():
    crawl.FIRST_DEADLINE = PATIENT
    with Site(100) as site:
        # Seen at once, and nothing is found by it alone.
        slow = next(page for page in site.links(0) + site.links(1) if 2 * page + 1 >= site.pages)
        site.held[slow] = threading.Event()

        def let_go(progress):
            if progress.stored == site.pages - 1:
                site.held[slow].set()

        summary = crawl.crawl(site.url, 3, let_go)
        assert complete(site, summary)
        assert list(summary.links)[-1].endswith(f"/{slow}") and site.visits[slow] == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fetchers_that_are_killed_lose_nothing(seed):
    crawl.FIRST_DEADLINE = PATIENT
    killed = []

    def kill_some(progress, chance=random.Random(seed)):
        fetchers = actors.members("fetchers")
        if fetchers:
            killed.append(chance.choice(fetchers))
            killed[-1].kill()

    with Site(150, seed, latency=0.01) as site:
        summary = crawl.crawl(site.url, 4, kill_some)
        assert complete(site, summary) and not summary.given_up
        assert len(set(killed)) >= 3


@pytest.mark.parametrize("stage", ["parser", "store", "frontier"])
def test_a_stage_that_is_killed_is_started_again_and_nothing_is_lost(stage):
    crawl.FIRST_DEADLINE = PATIENT
    killed = []

    def kill_once(progress):
        if progress.stored > 20 and not killed:
            killed.append(actors.whereis(stage))
            killed[0].kill()

    with Site(150, latency=0.01) as site:
        summary = crawl.crawl(site.url, 4, kill_once)
        assert complete(site, summary) and not summary.given_up
        assert len(killed) == 1


def test_pages_that_fail_or_hang_are_tried_again_with_more_time():
    crawl.FIRST_DEADLINE = 0.2
    with Site(60, hanging={5: 1, 11: 2}, broken={7: 2, 59: 1000}) as site:
        summary = crawl.crawl(site.url, fetchers=4)
        (url, why), = summary.given_up
        assert url.endswith("/59") and "503" in why
        assert 1 < site.visits[59] <= crawl.TRIES
        assert site.visits[5] >= 2 and site.visits[11] >= 3 and site.visits[7] >= 3
        assert len(summary.links) == 59 and url not in summary.links


@pytest.mark.outside
def test_the_program_says_what_it_found():
    done = subprocess.run([sys.executable, str(PIPELINE / "crawl.py"), "--pages", "90", "--latency", "0.001",
                           "--broken", "4", "--hanging", "1"], capture_output=True, text=True, env=os.environ,
                          timeout=helpers.TIME_LIMIT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found, requests, mailboxes = done.stdout.splitlines()
    assert found.startswith("90 pages, ") and ", 0 pages given up, " in found
    assert requests.startswith("requests: ") and requests.endswith(" at once, for 16 fetchers")
    assert mailboxes.startswith("greatest length of a mailbox: frontier ") and "of 16 allowed" in mailboxes


def test_without_requests_it_says_so():
    done = helpers.python("-c", f"import sys; sys.modules['requests'] = None; sys.path.insert(0, {str(PIPELINE)!r}); "
                          "import crawl")
    assert done.returncode == 1 and "python3-requests" in done.stderr
