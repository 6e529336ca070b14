# SPDX-License-Identifier: MIT
"""Runs the tests of one module of CPython and writes what became of each, line by line, to a file.

    worker.py MODULE EVENTS

EVENTS gets one JSON list a line: ["start", id], then ["pass" | "fail" | "error" | "skip" | "xfail", id, text], at
last ["done"]. It is flushed at each line, so that a process that dies or hangs still says which test did it. $CONFORMANCE_IDS
names a file: "+ID" lines are the only tests to run, "-ID" lines those to leave out, "~PATTERN" lines those
to leave out and to say so. Nothing of fibril is imported
here: the same program runs with it and without, and who starts it decides.
"""
import faulthandler
import fnmatch
import io
import json
import os
import signal
import sys
import unittest

# What tests may ask for: no sound, no screen, no gigabytes of disk, no downloads.
RESOURCES = ["cpu", "subprocess", "network", "decimal", "tzdata", "walltime"]


class Events(unittest.TestResult):
    """Writes each outcome when it is known. A test with failed subtests counts once, as failed."""

    def __init__(self, out):
        super().__init__(io.StringIO())
        self.out = out
        self.outcome = None

    def write(self, *event):
        self.out.write(json.dumps(event) + "\n")
        self.out.flush()

    def startTest(self, test):
        super().startTest(test)
        self.outcome = None
        self.write("start", test.id())

    def settle(self, test, kind, text=""):
        if test.id().startswith(("setUp", "tearDown")):  # of a class or module: they have no start and no stop
            self.write(kind, test.id(), text)
        elif not self.outcome or self.outcome[0] in ("pass", "xfail", "skip"):
            self.outcome = (kind, text)

    def stopTest(self, test):
        super().stopTest(test)
        kind, text = self.outcome or ("pass", "")
        self.write(kind, test.id(), text)

    def addSuccess(self, test):
        self.settle(test, "pass")

    def addFailure(self, test, err):
        self.settle(test, "fail", self._exc_info_to_string(err, test))

    def addError(self, test, err):
        self.settle(test, "error", self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        if not self.outcome:
            self.settle(test, "skip", reason)

    def addExpectedFailure(self, test, err):
        self.settle(test, "xfail")

    def addUnexpectedSuccess(self, test):
        self.settle(test, "fail", "unexpected success")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            kind = "fail" if issubclass(err[0], test.failureException) else "error"
            self.settle(test, kind, str(subtest) + "\n" + self._exc_info_to_string(err, test))


def tests_of(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from tests_of(each)
        else:
            yield each


def chosen(suite, path):
    """The suite without the tests that the file takes out, in the order and grouping of the module; and the ids of
    those that are left out for good (~)."""
    with open(path, encoding="utf-8") as lines:
        marks = [line.rstrip("\n") for line in lines if line.strip()]
    only = {m[1:] for m in marks if m[0] == "+"}
    without = {m[1:] for m in marks if m[0] == "-"}
    tests = list(tests_of(suite))
    omitted = {t.id() for t in tests for m in marks if m[0] == "~" and fnmatch.fnmatchcase(t.id(), m[1:])}
    keep = [t for t in tests if t.id() not in without | omitted and (not only or t.id() in only)]
    return unittest.TestSuite(keep), sorted(omitted)


def main():
    module, events = sys.argv[1:3]
    faulthandler.enable()
    if hasattr(signal, "SIGUSR1"):
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=False)
    from test import support
    support.use_resources = RESOURCES
    sys.argv[1:] = []
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    path, omitted = os.environ.pop("CONFORMANCE_IDS", ""), []
    if path:
        suite, omitted = chosen(suite, path)
    with open(events, "a", encoding="utf-8") as out:
        result = Events(out)
        for test in omitted:
            result.write("omitted", test, "")
        suite.run(result)
        result.write("done")


if __name__ == "__main__":
    main()
