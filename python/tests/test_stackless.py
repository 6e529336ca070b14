# SPDX-License-Identifier: MIT
"""The cases of stackless_*cases.py, in processes of their own: fibril.stackless enables fibril where it is imported."""

import functools
import os
import subprocess
import sys

import fibril
import helpers
import pytest

helpers.need_frames()
HERE = os.path.dirname(os.path.abspath(__file__))
FILES = ("stackless_cases.py", "stackless_gc_cases.py", "stackless_pickle_cases.py")


def cases():
    """(file, test function); those with parameters run together."""
    for name in FILES:
        with open(os.path.join(HERE, name), encoding="utf-8") as file:
            yield from [(name, line.split("(")[0][4:]) for line in file if line.startswith("def test_")]


@functools.lru_cache
def outcome(file):
    """What pytest says of each case."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(fibril.__file__)))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", os.path.join(HERE, file)],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=4 * helpers.TIME_LIMIT,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize("file, name", list(cases()))
def test_case(file, name):
    lines = [line for line in outcome(file).splitlines() if f"::{name}" in line and "%]" in line]
    if lines and all(" SKIPPED" in line for line in lines):
        pytest.skip("skipped there")
    assert lines and all(" PASSED" in line for line in lines), outcome(file)
