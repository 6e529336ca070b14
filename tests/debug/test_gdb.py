#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""tools/gdb_fibril.py under gdb, on a live program and on its core file.

Usage: test_gdb.py SCRIPT PROGRAM. gdb runs PROGRAM (gdb_sample.c) to its abort(), asks there, writes a core
file, and asks again of that, and of the kernel's own core file where it writes one. Exit status 77: no gdb, or
it may not trace.
"""

import re
import sys

import gdb_session

SCRIPT, PROGRAM = sys.argv[1], sys.argv[2]
COPIED = 128 + 8  # as in gdb_sample.c


def record(text, name):
    """The lines about the fibril of that name: its own, and its backtrace where there is one."""
    lines, longest = text.splitlines(), ""
    for i, line in enumerate(lines):
        if re.match(r" +\d+ +0  \w+ +[\d.]+ s  %s( |$)" % re.escape(name), line):
            end = i + 1
            while end < len(lines) and re.match(r"#\d|    [a-z]", lines[end]):
                end += 1
            longest = max(longest, "\n".join(lines[i:end]), key=len)
    return longest


def identity(text, name):
    return record(text, name).split()[0]


class Sample(gdb_session.Asked):
    def functions(self, name):
        return re.findall(r"^#\d+ +(?:0x[0-9a-f]+ in )?(\w+)", record(self.text, name), re.M)

    def test_every_fibril_is_listed(self):
        listed = self.text.split("END OF LIST")[0]
        self.assertEqual(len(re.findall(r"^ +\d+ +0  ", listed, re.M)), 4 + COPIED)
        self.assertRegex(record(listed, "main"), r"ready")
        self.assertRegex(record(listed, "locker"), r"parked .* mutex held by fibril 1$")
        self.assertRegex(record(listed, "sleeper"), r"parked +\d\.\d{3} s  sleeper +sleep$")
        self.assertRegex(record(listed, "aborter"), r"running")

    def test_parked_fibril_has_its_whole_backtrace(self):
        functions = self.functions("sleeper")
        calls = [f for f in functions if f in ("deep", "parked_in_sleep")]
        self.assertEqual(calls, ["deep", "deep", "deep", "parked_in_sleep"])
        self.assertIn("fibril_sleep_until", functions)
        self.assertEqual(functions[-1], "start")
        self.assertIn("parked_in_lock", self.functions("locker"))
        self.assertNotIn("abort", " ".join(functions))

    def test_arguments_and_lines_are_known(self):
        self.assertRegex(record(self.text, "sleeper"), r"deep \(n=.*gdb_sample\.c:\d+")

    def test_ready_fibril_has_its_backtrace(self):
        self.assertIn("main", self.functions("main"))

    def test_copied_stack_in_place_has_its_backtrace(self):
        self.assertIn("parked_copied", self.functions("last copied"))

    def test_copied_stack_elsewhere_says_so(self):
        about = record(self.text, "first copied")
        self.assertRegex(about, r"its bytes are not in place; it stopped in fibril__\w+\+\d+")
        self.assertIn("perhaps called from parked_copied+", about)

    def test_running_fibril_has_the_thread_s_backtrace(self):
        self.assertIn("aborting", self.functions("aborter"))

    def test_one_can_be_asked_for(self):
        one = self.text.split("END OF ALL")[1]
        self.assertEqual(len(re.findall(r"^ +\d+ +0  ", one, re.M)), 1)
        self.assertIn("parked_in_lock", one)

    def test_unknown_one_is_refused(self):
        self.assertIn("there is no fibril 99999", self.text)

    def test_selected_one_can_be_looked_into(self):
        selected = self.text.split("SELECTED")[1].split("UNSELECTED")[0]
        self.assertRegex(selected, r"#1 ")
        self.assertRegex(selected, r"depth = 0")

    def test_thread_is_itself_again(self):
        self.assertIn("aborting", self.text.split("THREAD AGAIN")[1])


def questions(sleeper, locker):
    return ["fibril list", "echo END OF LIST\\n", "fibril bt all", "echo END OF ALL\\n",
            "fibril bt " + locker, "fibril bt 99999", "echo SELECTED\\n", "fibril select " + sleeper,
            "frame function deep", "info locals", "fibril select none", "echo UNSELECTED\\n",
            "echo THREAD AGAIN\\n", "backtrace"]


def main():
    session = gdb_session.Session(SCRIPT, PROGRAM)
    first = session.before_core()
    asked = questions(identity(first, "sleeper"), identity(first, "locker"))
    # The program counts its fibrils alike in each run.
    return 0 if session.run_tests(asked, Sample) else 1


if __name__ == "__main__":
    sys.exit(main())
