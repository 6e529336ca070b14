# SPDX-License-Identifier: MIT
"""A program is seen from inside: fibril.observe, --observe, FIBRIL_OBSERVE."""

import json
import os
import urllib.error
import urllib.request

import pytest

import fibril
import helpers

ISOLATED = True


def get(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read().decode()


class Room(fibril.Actor):
    """Sits there."""

    def on_ask(self):
        return 1


def test_the_page_and_the_tables_are_served():
    for number in range(3):
        Room.start(name=f"room {number}")
    fibril.Supervisor([fibril.Child(Room, id="hall")], name="house").start()
    with fibril.observe() as observed:
        assert "<title>fibril</title>" in get(observed.url)
        rows = json.loads(get(observed.url + "json?view=actors"))["rows"]
        assert {"room 0", "room 1", "room 2", "house", "hall"} <= {row["name"] for row in rows}
        assert {(row["function"], row["state"]) for row in rows if row["name"].startswith("room")} == {
            ("Room", "waits: mailbox")}
        assert "room 1" in get(observed.url + "text?view=actors")
        tree = get(observed.url + "text?view=tree")
        assert tree.index("house") < tree.index("hall")
        assert "fibrils" in get(observed.url + "text?view=fibrils&count=5")
        with helpers.raises(urllib.error.HTTPError) as refused:
            get(observed.url + "text?view=nothing")
        assert refused.value.code == 400
        with helpers.raises(RuntimeError):
            fibril.observe()
    with helpers.raises(OSError):
        get(observed.url)
    fibril.observe().close()


def test_wrong_addresses_are_refused_by_name():
    for port, host in ((70000, "127.0.0.1"), ("x", "127.0.0.1"), (0, "no such host")):
        with helpers.raises(ValueError) as caught:
            fibril.observe(port, host)
        assert str(port if host == "127.0.0.1" else host) in str(caught.value)


PROGRAM = """
import sys, urllib.request
url = open(sys.argv[1]).read().split()[-1]
print(urllib.request.urlopen(url + "text", timeout=20).read().decode().split()[0])
"""


@pytest.mark.outside
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_program_is_observed_from_the_command_line_and_ends_by_itself(how, tmp_path):
    log = tmp_path / "log"
    options, environment = [], dict(os.environ)
    if how == "option":
        options = ["--observe", "0"]
    else:
        environment["FIBRIL_OBSERVE"] = "127.0.0.1:0"
    program = "import time; time.sleep(0.2)\n" + PROGRAM
    with open(log, "w", encoding="utf-8") as file:
        import subprocess
        import sys

        done = subprocess.run([sys.executable, "-m", "fibril", *options, "-c", program, str(log)], env=environment,
                              stdout=subprocess.PIPE, stderr=file, timeout=helpers.TIME_LIMIT, check=False, text=True)
    assert (done.returncode, done.stdout) == (0, "loop\n"), log.read_text()


@pytest.mark.outside
def test_a_wrong_address_is_told():
    done = helpers.python("-m", "fibril", "--observe", "nowhere", "-c", "print(1)")
    assert done.returncode == 2 and "--observe nowhere" in done.stderr and done.stdout == ""
    done = helpers.python("-m", "fibril", "-c", "import time; time.sleep(0.1)",
                          env={**os.environ, "FIBRIL_OBSERVE": "nowhere"})
    assert done.returncode == 0 and "FIBRIL_OBSERVE=nowhere" in done.stderr
