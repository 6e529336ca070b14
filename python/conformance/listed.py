# SPDX-License-Identifier: MIT
"""The lists of tests that are known to fail: a line each, PATTERN: reason."""
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def read_exceptions(name):
    """[(what stands before the colon, reason)] of one of the files in this folder; one without a reason ends the
    program."""
    out = []
    with open(os.path.join(HERE, name), encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and line[0] != "#":
                pattern, _, reason = line.strip().partition(": ")
                if not reason:
                    raise SystemExit(f"{name}: no reason: {line.strip()}")
                out.append((pattern, reason))
    return out
