#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Counts what the test runners did.

Meson counts programs; people want tests. So the TAP lines in Meson's JSON log are counted one by one. A
program that dies half-way, prints less than its plan or exits badly adds failures: nothing that went
wrong may vanish between two formats.
"""

import argparse
import json
import os
import re
import subprocess
import sys

TAP = re.compile(r"^(not )?ok\b(?:\s+\d+)?\s*(?:-\s*)?(.*?)(?:\s+#\s*(SKIP|TO[D]O)\b.*)?$", re.IGNORECASE)
PLAN = re.compile(r"^1\.\.(\d+)(?:\s*#\s*SKIP\b.*)?$", re.IGNORECASE)
GOOD = {"OK", "SKIP", "EXPECTEDFAIL"}


class Count:
    """Passed, failed and skipped, with the names of what failed."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []

    def fail(self, name, log=""):
        self.failed += 1
        self.failures.append([name, log])

    def explain(self, text):
        """Adds to what is known of the last failure."""
        if self.failures:
            self.failures[-1][1] += text.rstrip() + "\n"


def count_tap(entry, count):
    """Adds the TAP lines of one program. What it says of a failure follows that line as a # comment."""
    planned, seen, failed, explaining = None, 0, 0, False
    noise = entry.get("stderr", "")
    for line in entry.get("stdout", "").splitlines():
        if line.startswith("#") and explaining:
            count.explain(line[1:].strip())
        plan = PLAN.match(line)
        if plan:
            planned = int(plan.group(1))
            continue
        result = TAP.match(line)
        if not result:
            continue
        seen += 1
        explaining = bool(result.group(1))
        directive = (result.group(3) or "").upper()
        if directive == "SKIP":
            count.skipped += 1
        elif result.group(1):
            failed += 1
            count.fail(f"{entry['name']}: {result.group(2)}")
        else:
            count.passed += 1
    if planned == 0 and entry["result"] in GOOD:
        count.skipped += 1
    elif planned is None or seen < planned:
        missing = (planned or seen + 1) - seen
        for _ in range(missing):
            count.fail(f"{entry['name']}: {entry['result']}, said nothing of a test", noise)
    elif entry["result"] not in GOOD and not failed:
        count.fail(f"{entry['name']}: {entry['result']}", noise)
    elif failed:
        count.explain(noise)


def count_entry(entry, count):
    """Adds one line of Meson's log: a TAP program, or one whose exit status is its result."""
    if PLAN.search(entry.get("stdout", "").split("\n", 1)[0]):
        count_tap(entry, count)
    elif entry["result"] == "SKIP":
        count.skipped += 1
    elif entry["result"] in GOOD:
        count.passed += 1
    else:
        count.fail(f"{entry['name']}: {entry['result']}", entry.get("stderr", ""))


def count_log(path):
    count = Count()
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            lines = [line for line in log if line.strip()]
    except FileNotFoundError:
        lines = []
    for line in lines:
        count_entry(json.loads(line), count)
    if not lines:
        count.fail("no test ran")
    return count


def show_failures(count, log=None, most_lines=25):
    for name, text in count.failures[:10]:
        print(f"    FAILED {name}")
        for line in text.strip().splitlines()[-most_lines:]:
            print(f"        {line}")
    if len(count.failures) > 10:
        print(f"    and {len(count.failures) - 10} more")
    if count.failures and log:
        print(f"    the whole log: {log[:-len('.json')]}.txt")


def add(summary, runner, count):
    with open(summary, "a", encoding="utf-8") as out:
        out.write(f"{runner} {count.passed} {count.failed} {count.skipped}\n")


def one_runner(options):
    count = count_log(options.log)
    print(f"{options.label} {count.passed} passed, {count.failed} failed, {count.skipped} skipped"
          f"   {options.elapsed} s (building {options.built} s)", flush=True)
    show_failures(count, options.log)
    add(options.summary, options.runner, count)
    return 0


def fuzz_targets(folder):
    """libFuzzer programs say so themselves when asked for help."""
    for directory, _, names in os.walk(os.path.join(folder, "fuzz")):
        for name in sorted(names):
            path = os.path.join(directory, name)
            if not name.startswith("fuzz_") or not os.access(path, os.X_OK):
                continue
            answer = subprocess.run([path, "-help=1"], capture_output=True, timeout=20, check=False)
            if b"libFuzzer" in answer.stdout + answer.stderr or b"-max_total_time" in answer.stderr:
                yield path


def fuzz(options):
    """Runs each libFuzzer target for a while, on its corpus in fuzz/corpus when there is one."""
    count = Count()
    for path in fuzz_targets(options.fuzz):
        name = os.path.basename(path)
        found = os.path.join(options.fuzz, "found", name)
        os.makedirs(found, exist_ok=True)
        corpora = [found]
        for corpus in (f"fuzz/corpus/{name}", f"fuzz/corpus/{name[len('fuzz_'):]}"):
            corpora += [corpus] if os.path.isdir(corpus) else []
        print(f"         fuzzing   {name}, {options.seconds} s", flush=True)
        log = os.path.join(options.logs, f"{name}.log")
        with open(log, "wb") as out:
            done = subprocess.run([path, f"-max_total_time={options.seconds}", "-timeout=10",
                                   f"-artifact_prefix={found}/", *corpora],
                                  stdout=out, stderr=out, check=False)
        if done.returncode == 0:
            count.passed += 1
        else:
            count.fail(f"{name} (see {log})")
    show_failures(count)
    add(options.summary, "fuzzing", count)
    return 0


def total(summary):
    """Prints the last line of ./dev test; returns its exit status."""
    sums = [0, 0, 0]
    with open(summary, encoding="utf-8") as lines:
        for line in lines:
            sums = [a + int(b) for a, b in zip(sums, line.split()[1:])]
    print(f"{sums[0]} passed, {sums[1]} failed, {sums[2]} skipped")
    return 1 if sums[1] or not sums[0] else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total", metavar="SUMMARY")
    parser.add_argument("--fuzz", metavar="BUILD")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--logs")
    parser.add_argument("--runner")
    parser.add_argument("--summary")
    parser.add_argument("--label", default="")
    parser.add_argument("--built", default="0")
    parser.add_argument("--elapsed", default="0")
    parser.add_argument("log", nargs="?")
    options = parser.parse_args()
    if options.total:
        return total(options.total)
    if options.fuzz:
        return fuzz(options)
    return one_runner(options)


if __name__ == "__main__":
    sys.exit(main())
