#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""tools/gdb_fibril.py on a program in Python, live and from core files. Not one of pytest's: it needs a build
with debug information, and is a test of meson's.

Usage: gdb_stacks.py SCRIPT PYTHON PACKAGES. Exit status 77: no gdb, or it may not trace.
"""

import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "debug"))
import gdb_session  # noqa: E402

SAMPLE = os.path.join(HERE, "gdb_sample.py")
with open(SAMPLE, encoding="utf-8") as source:
    LINES = {line.split("# HERE ")[1].strip(): number
             for number, line in enumerate(source, 1) if "# HERE " in line}


def stacks(text):
    """The Python stack of each fibril: lists of (function, line), innermost first."""
    found = []
    for line in text.splitlines():
        if re.match(r" +\d+ +\d+  \w+ +[\d.]+ s  ", line):
            found.append([])
        frame = re.match(r'      File "(.*)", line (\d+|\?) in (.*)', line)
        if frame and frame.group(1) == SAMPLE:
            found[-1].append((frame.group(3), int(frame.group(2))))
    return found


class Stacks(gdb_session.Asked):
    def stack_with(self, name):
        """The one stack that stands where the sample says so."""
        matching = [stack for stack in stacks(self.text.split("BACKTRACES")[0])
                    if any(line == LINES[name] for _, line in stack)]
        self.assertEqual(len(matching), 1, self.text)
        return matching[0]

    def functions(self, name):
        return [function.split(".")[-1] for function, _ in self.stack_with(name)]


class Fibrils(Stacks):
    def test_main_fibril_and_the_module_below_it(self):
        self.assertEqual(self.stack_with("main")[0], ("fibrils", LINES["main"]))
        self.assertEqual(self.functions("main")[-1], "<module>")

    def test_running_one(self):
        self.assertEqual(self.stack_with("aborter"), [("fibrils.<locals>.aborter", LINES["aborter"])])

    def test_thread_that_never_called_fibril(self):
        self.assertEqual(self.stack_with("in_thread")[0], ("fibrils.<locals>.in_thread", LINES["in_thread"]))

    def test_thread_that_waits_in_python(self):
        self.assertEqual(self.stack_with("in_event")[0], ("fibrils.<locals>.in_event", LINES["in_event"]))

    def test_python_called_by_c(self):
        self.assertEqual(self.functions("through_c"), ["<lambda>", "<lambda>", "through_c", "sleeper"])

    def test_names_beyond_ascii(self):
        self.assertEqual(self.functions("générateur"), ["<lambda>", "générateur", "観察者"])

    def test_deep_stack_and_method_on_several_lines(self):
        stack = self.stack_with("method")
        self.assertIn(("Holder.method", LINES["method"]), stack)
        self.assertEqual(len([1 for function, _ in stack if function == "deep"]), 201)

    def test_backtrace_has_both_stacks(self):
        both = self.text.split("BACKTRACES")[1]
        self.assertRegex(both, r"(?s)#\d+ .*fibril_sleep.*Python stack, most recent call first:\n"
                               r'      File "[^"]*gdb_sample\.py", line %d in fibrils\n' % LINES["main"])


class Unmodified(Stacks):
    def test_main_fibril(self):
        self.assertEqual(self.functions("unmodified main"), ["unmodified", "<module>"])

    def test_running_thread(self):
        self.assertEqual(self.functions("stopper"), ["stopper"])


class Tasklets(Stacks):
    def test_every_tasklet_has_its_own_wherever_its_bytes_are(self):
        found = stacks(self.text.split("BACKTRACES")[0])
        parked = [[function.split(".")[-1] for function, _ in stack] for stack in found
                  if any(line == LINES["through_c"] for _, line in stack)]
        self.assertEqual(parked, [["<lambda>", "through_c", "receiver"]] * 12)

    def test_main_tasklet_that_waits_in_run(self):
        self.assertEqual(self.stack_with("run"), [("tasklets", LINES["run"]), ("<module>", LINES["program"])])

    def test_running_one(self):
        self.assertEqual(self.stack_with("last tasklet"), [("tasklets.<locals>.last", LINES["last tasklet"])])


def main():
    script, python, packages = sys.argv[1:4]
    questions = ["fibril py all", "echo BACKTRACES\\n", "fibril bt all"]
    failed = 0
    ask = [python, "-c", "import sys; print(sys.version_info < (3, 12))"]
    stackless = subprocess.run(ask, stdout=subprocess.PIPE, text=True, check=True).stdout.strip() == "True"
    for base in (Fibrils, Unmodified, Tasklets) if stackless else (Fibrils, Unmodified):
        session = gdb_session.Session(script, python, SAMPLE, base.__name__.lower(),
                                      environment={"PYTHONPATH": packages}.items())
        session.before_core()
        failed += not session.run_tests(questions, base)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
