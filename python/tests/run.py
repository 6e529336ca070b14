#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the tests of the Python package under pytest and counts them as ./dev test does.

    run.py --path DIR [--label TEXT] [--summary FILE] [--log FILE] [--interpreter FILE] [pytest's own options]

DIR holds the package: build/NAME/python. FILE is what tests start instead of this Python.
"""

import argparse
import os
import signal
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))


class Counter:
    """A pytest plugin: how many passed, failed and were skipped, and the names of those that failed."""

    def __init__(self):
        self.count = {"passed": 0, "failed": 0, "skipped": 0}
        self.failures = []

    def pytest_runtest_logreport(self, report):
        if report.when == "call" or not report.passed:
            self.count[report.outcome] += 1
            if report.failed:
                self.failures.append((report.nodeid, str(report.longrepr)))

    def pytest_collectreport(self, report):
        if report.failed:
            self.count["failed"] += 1
            self.failures.append((report.nodeid, str(report.longrepr)))


def main():
    # Whoever started us in the background may have had these ignored, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    p = argparse.ArgumentParser()
    p.add_argument("--path", required=True)
    p.add_argument("--label", default="python")
    p.add_argument("--summary")
    p.add_argument("--log")
    p.add_argument("--interpreter", default=sys.executable)
    options, more = p.parse_known_args()
    path = os.path.abspath(options.path)
    sys.executable = os.path.abspath(options.interpreter)
    os.environ["PYTHONPATH"] = os.pathsep.join([path, os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH")
                                               else [path])
    sys.path.insert(0, path)
    begun, counter = time.monotonic(), Counter()
    pytest.main(["-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "--no-summary", "-c", os.devnull,
                 "--rootdir", HERE, *(more or [HERE])], plugins=[counter])
    count = counter.count
    print(f"{options.label} {count['passed']} passed, {count['failed']} failed, {count['skipped']} skipped, "
          f"{time.monotonic() - begun:.0f} s")
    for name, why in counter.failures:
        print(f"  FAILED {name}")
        if options.log:
            with open(options.log, "a", encoding="utf-8") as log:
                log.write(f"FAILED {name}\n{why}\n\n")
        else:
            print("    " + why.replace("\n", "\n    ")[-3000:])
    if options.summary:
        with open(options.summary, "a", encoding="utf-8") as out:
            out.write(f"python {count['passed']} {count['failed']} {count['skipped']}\n")
    return 1 if counter.failures else 0


if __name__ == "__main__":
    sys.exit(main())
