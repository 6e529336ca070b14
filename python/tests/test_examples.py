# SPDX-License-Identifier: MIT
"""The examples run and say what they should."""

import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "python"


def run(name, *arguments, module=(), quiet=True):
    done = subprocess.run(
        [sys.executable, *module, str(EXAMPLES / name), *arguments],
        capture_output=True, text=True, timeout=120, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or not quiet
    return done.stdout


def test_threads_that_know_nothing_of_fibril():
    out = run("ten_thousand_threads.py", "500", module=("-m", "fibril"))
    assert out.startswith("500 of 500 answers")
    assert out.endswith("on 1 OS threads\n")


def test_scopes():
    assert run("scopes.py") == (
        "all have ended: short, long\n"
        "one failed: no such luck - patient cancelled\n")


def test_pipeline():
    assert run("pipeline.py") == "sum of squares: 332833500\n"


def test_beside_asyncio():
    assert run("beside_asyncio.py", module=("-m", "fibril")) == (
        "60 ticks of 20 event loops\n"
        "a coroutine waited: slept\n"
        "a fibril waited: done\n")


def test_workers():
    assert run("workers.py", quiet=False) == (  # the loss is reported
        "sum: 5050\n"
        "the worker was killed\n"
        "sum: 5050\n")


def test_turnstile():
    assert run("turnstile.py") == (
        "('closed', 0)\n"
        "go through\n"
        "Ada is through\n"
        "('closed', 100)\n"
        "Turnstile handles no 'close' in the state 'closed'\n")


def test_connections():
    squares = ["ConnectionResetError" if n == 13 else n * n for n in range(10, 30)]
    assert run("connections.py") == f"{squares}\n4 9\ndied: 1 waiting: 0 lent: 0\n"
