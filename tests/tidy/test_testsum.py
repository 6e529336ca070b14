#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The sum at the end of ./dev test: no way to go wrong may be counted as going right. Prints TAP."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import testsum  # noqa: E402

# what happened, what Meson says, what the program printed, expected (passed, failed, skipped)
CASES = (
    ("tests are counted one by one", "OK", "1..3\nok 1 - a\nok 2 - b\nok 3 - c # SKIP no kernel\n", (2, 0, 1)),
    ("a failed test is one failure, whatever the exit status", "ERROR", "1..2\nok 1 - a\nnot ok 2 - b\n# why\n",
     (1, 1, 0)),
    ("tests that were planned and not run failed", "ERROR", "1..4\nok 1 - a\n", (1, 3, 0)),
    ("a program that dies after its last test failed", "ERROR", "1..1\nok 1 - a\n", (1, 1, 0)),
    ("a program that ran out of time failed", "TIMEOUT", "1..2\nok 1 - a\n", (1, 1, 0)),
    ("a program that crashes at once failed", "FAIL", "", (0, 1, 0)),
    ("a program without TAP is one test", "OK", "hello\n", (1, 0, 0)),
    ("a program without TAP may skip", "SKIP", "", (0, 0, 1)),
    ("an empty plan is a skip", "SKIP", "1..0 # SKIP nothing here\n", (0, 0, 1)),
    ("a line that only looks like TAP is none", "OK", "1..1\nokay\nok 1 - a\n", (1, 0, 0)),
    ("an interrupted program failed", "INTERRUPT", "", (0, 1, 0)),
)


def main():
    number = 0
    bad = False
    print(f"1..{len(CASES) + 2}")

    def tell(good, what, found):
        nonlocal number, bad
        number += 1
        bad = bad or not good
        print(f"{'ok' if good else 'not ok'} {number} - {what}")
        if not good:
            print(f"# found {found}")

    for what, result, stdout, expected in CASES:
        count = testsum.Count()
        testsum.count_entry({"name": "t", "result": result, "stdout": stdout, "stderr": ""}, count)
        found = (count.passed, count.failed, count.skipped)
        tell(found == expected and len(count.failures) == count.failed, what, found)

    count = testsum.count_log("/nonexistent/testlog.json")
    tell(count.failed == 1, "a runner that ran nothing failed", count.failed)

    count = testsum.Count()
    testsum.count_entry({"name": "t", "result": "FAIL", "stdout": "1..2\nnot ok 1 - a\n# a.c:7: x\nok 2 - b\n# z\n",
                         "stderr": "noise"}, count)
    told = count.failures[0][1].split()
    tell(told == ["a.c:7:", "x", "noise"], "a failure keeps what was said of it", told)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
