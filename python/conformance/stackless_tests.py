#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the unit tests of the Stackless project, or of CCP's carbonengine/scheduler, on fibril.stackless.

    stackless_tests.py FOLDER [MODULE...]           FOLDER is Stackless/unittests of a checkout of stackless
    stackless_tests.py --carbon FOLDER [MODULE...]  FOLDER is a checkout of scheduler

None is part of this tree. Each module is a process of its own; a test that kills it or takes longer than its limit is a result like others, and
the tests after it run in a new process. What does not pass counts as a failure unless stackless_exceptions.txt (or
carbon_exceptions.txt) lists it with its reason. What the tests want of test helpers in C is replaced below, and by
carbon_scheduler.py.
"""
import fnmatch
import os
import signal
import subprocess
import sys
import tempfile
import threading

from listed import read_exceptions

HERE = os.path.dirname(os.path.abspath(__file__))
LIMIT = 20  # seconds without a word from the process
MOST_PROCESSES = 30
CARBON = "test_channel test_queuechannel test_scheduler test_tasklet".split()
MODULES = """test_channel test_chan_cb test_sched_cb test_miscell test_exception test_weakref test_generator
    test_outside test_watchdog test_thread test_defects test_shutdown test_tracing test_transfer_errors test_tstate
    test_pickle""".split()


# ---- the process that runs tests -----------------------------------------------------------------------------


def helpers(stackless):
    """What Stackless's tests import of its C helpers."""
    import types

    def apply(function, *args, **kwargs):
        return function(*args, **kwargs)

    def test_cframe(switches, extra=0):
        for _ in range(switches):
            stackless.schedule()

    def get_thread_info(thread_id=-1, flags=0, plain=stackless.get_thread_info):
        return plain(thread_id, flags) + ((None, 0, None) if flags == 1 << 30 else ())

    stackless._test_nostacklesscall = apply
    stackless.test_cframe = stackless.test_cframe_nr = test_cframe
    stackless.test_outside = stackless.run
    stackless.get_thread_info = get_thread_info
    module = types.ModuleType("_teststackless")
    module.test_cframe, module.test_cstate = test_cframe, apply
    sys.modules["_teststackless"] = module


def install():
    """Stackless as the tests expect it. Their threads count on being preempted."""
    import fibril

    fibril.enable(preempt_ms=5)
    from fibril import stackless

    stackless.install()
    helpers(stackless)
    return stackless


def prepare_stackless(folder):
    import builtins

    stackless = install()
    sys.path.insert(0, folder)
    from test import support as of_cpython

    if not hasattr(of_cpython, "run_unittest"):  # until 3.11; imported, and never called here
        of_cpython.run_unittest = None
    import support

    support.get_tasklets_with_cstate = lambda: []
    call = subprocess.call  # children need the environment, in which this module is
    subprocess.call = lambda command, **options: call([a for a in command if a not in ("-E", "-S")], **options)
    builtins.stackless = stackless  # test_weakref forgets to import it


def prepare_carbon(folder):
    import carbon_scheduler

    sys.modules["_scheduler"] = carbon_scheduler
    sys.path[:0] = [os.path.join(folder, "python"), os.path.join(folder, "tests", "python", "scheduler", "tests")]


def worker(kind, folder, name, skip):
    import importlib
    import unittest

    (prepare_carbon if kind == "carbon" else prepare_stackless)(folder)
    out = os.fdopen(os.dup(1), "w", buffering=1)

    class Result(unittest.TestResult):
        def startTest(self, test):
            print("start", test.id(), file=out)
            self.word = "pass"
            super().startTest(test)

        def note(self, word, text=""):
            self.word = word
            if text:
                print(text, file=sys.stderr, flush=True)

        def addError(self, test, error):
            self.note("error", f"== {test.id()}\n" + self._exc_info_to_string(error, test))

        addFailure = addError

        def addSubTest(self, test, subtest, outcome):
            if outcome is not None:
                self.addError(test, outcome)

        def addSkip(self, test, reason):
            self.note("skip")

        def addUnexpectedSuccess(self, test):
            self.note("error")

        def stopTest(self, test):
            print("end", self.word, test.id(), file=out)
            super().stopTest(test)

    def each(suite):
        for test in suite:
            yield from each(test) if isinstance(test, unittest.TestSuite) else [test]

    tests = each(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(name)))
    unittest.TestSuite(test for test in tests if test.id() not in skip).run(Result())
    print("done", file=out)


# ---- the process that watches --------------------------------------------------------------------------------


def run_once(kind, folder, name, results, log):
    """One process; returns whether it came to its end."""
    command = [sys.executable, os.path.abspath(__file__), "--worker", kind, folder, name]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                             start_new_session=True)  # so that its children can be killed with it
    child.stdin.write("\n".join(results))
    child.stdin.close()
    timer, current, done = None, None, False
    for line in child.stdout:
        if timer:
            timer.cancel()
        word, _, rest = line.strip().partition(" ")
        if word == "start":
            current = rest
        elif word == "end":
            outcome, _, test = rest.partition(" ")
            results[test], current = outcome, None
        done = done or word == "done"
        timer = threading.Timer(LIMIT, os.killpg, (child.pid, signal.SIGKILL))
        timer.start()
    if timer:
        timer.cancel()
    child.wait()
    if current:
        results[current] = f"died ({child.returncode})"
    return done or not current


def main(kind, folder, names):
    exceptions, failed, total, listed = read_exceptions(kind + "_exceptions.txt"), 0, 0, 0
    children = tempfile.TemporaryDirectory()  # so that processes which the tests start find the module, too
    with open(os.path.join(children.name, "stackless.py"), "w", encoding="utf-8") as file:
        file.write("import sys\ndel sys.modules[__name__]\nimport stackless_tests\nstackless_tests.install()\n")
    os.environ["PYTHONPATH"] = os.pathsep.join([os.environ.get("PYTHONPATH", ""), children.name, HERE])
    for name in names or (CARBON if kind == "carbon" else MODULES):
        results = {}
        with open(os.environ.get("STACKLESS_LOG", os.devnull), "a", encoding="utf-8") as log:
            for _ in range(MOST_PROCESSES):
                if run_once(kind, folder, name, results, log):
                    break
        passed = sum(word == "pass" for word in results.values())
        skipped = sum(word == "skip" for word in results.values())
        bad = {test: word for test, word in results.items() if word not in ("pass", "skip")}
        known = [t for t in bad if any(fnmatch.fnmatchcase(t, pattern) for pattern, _ in exceptions)]
        print(f"{name}: {passed} passed, {skipped} skipped, {len(known)} listed, {len(bad) - len(known)} failed")
        if not results:
            print(f"  {name} did not load")
            failed += 1
        for test, word in bad.items():
            if test not in known:
                print(f"  {word} {test}")
        failed, total, listed = failed + len(bad) - len(known), total + passed, listed + len(known)
    print(f"{total} passed, {listed} listed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(*sys.argv[2:5], set(sys.stdin.read().split("\n")))
    elif len(sys.argv) < 2:
        sys.exit(__doc__)
    elif sys.argv[1] == "--carbon" and len(sys.argv) > 2:
        sys.exit(main("carbon", sys.argv[2], sys.argv[3:]))
    else:
        sys.exit(main("stackless", sys.argv[1], sys.argv[2:]))
