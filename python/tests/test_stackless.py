# SPDX-License-Identifier: MIT
"""The cases of stackless_cases.py, in a process of their own: fibril.stackless enables fibril where it is imported."""

import os
import subprocess
import sys

import fibril
import pytest

CASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stackless_cases.py")


def names():
    """The test functions of the file; those with parameters run together."""
    with open(CASES, encoding="utf-8") as file:
        return [line.split("(")[0][4:] for line in file if line.startswith("def test_")]


@pytest.fixture(scope="module")
def outcome():
    """What pytest says of each case."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(fibril.__file__)))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", CASES],
        env={**os.environ, "PYTHONPATH": package},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize("name", names())
def test_case(outcome, name):
    lines = [line for line in outcome.splitlines() if f"::{name}" in line and "%]" in line]
    assert lines and all(" PASSED" in line for line in lines), outcome
