#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs CPython's own test modules with fibril enabled and compares, test by test, with what they do without.

    run.py [MODULE...] [--long] [--plain] [--both] [--path DIR] [--python PATH]

Each module is a process of its own. A test that kills it or outlasts its limit is a result like others; the tests
after it run in a new process. What does not pass with fibril runs once more without: what fails there as well is the
machine's or CPython's, what does not is ours, unless exceptions.txt lists it with its reason.
"""
import argparse
import collections
import concurrent.futures
import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from listed import read_exceptions

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORKER = os.path.join(HERE, "worker.py")
MOST_PROCESSES = 12  # for one module: after so many deaths the rest of it counts as not run
GRACE = 15           # seconds that a module may take to end after its last test
GOOD = ("pass", "xfail")

Module = collections.namedtuple("Module", "name long limit")


def read_modules():
    with open(os.path.join(HERE, "modules.txt"), encoding="utf-8") as lines:
        rows = [line.split() for line in lines if line.strip() and line[0] != "#"]
    return [Module(name, length == "long", int(limit)) for name, length, limit in rows]


def exceptions():
    """[(pattern of test ids, reason, whether it is run at all)]"""
    out = []
    for ids, reason in read_exceptions("exceptions.txt"):
        word, _, pattern = ids.partition(" ")
        if word not in ("differs", "omit"):
            raise SystemExit("exceptions.txt: neither differs nor omit: " + ids)
        out.append((pattern.strip(), reason, word == "differs"))
    return out


class Process:
    """One process of the worker, watched until it ends or one of its tests takes too long."""

    running = set()

    def __init__(self, command, env, module, ids):
        self.folder = tempfile.mkdtemp(prefix="conformance-")
        self.events = os.path.join(self.folder, "events")
        self.log_path = os.path.join(self.folder, "log")
        self.module = module
        marks = os.path.join(self.folder, "ids")
        with open(marks, "w", encoding="utf-8") as out:
            out.write("".join(line + "\n" for line in ids))
        os.mkdir(os.path.join(self.folder, "cwd"))
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [*command, WORKER, "test." + module.name, self.events], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=os.path.join(self.folder, "cwd"), start_new_session=True,
                env=dict(env, CONFORMANCE_IDS=marks, TMPDIR=os.path.join(self.folder, "cwd")))
        Process.running.add(self.process.pid)

    def read(self):
        try:
            with open(self.events, encoding="utf-8") as lines:
                return [json.loads(line) for line in lines if line.endswith("\n")]
        except FileNotFoundError:
            return []

    def watch(self):
        """Returns (events, how it ended): "" when well, or "crash ..." or "hang" with the end of its log."""
        size, since = -1, time.monotonic()
        while self.process.poll() is None:
            time.sleep(0.1)
            now = os.path.getsize(self.events) if os.path.exists(self.events) else 0
            if now != size:
                size, since = now, time.monotonic()
                events = self.read()
            done = bool(events) and events[-1][0] == "done"
            if time.monotonic() - since > (GRACE if done else self.module.limit):
                return self.read(), "hang\n" + self.interrogate()
        code = self.process.returncode
        how = "died of %s" % signal.Signals(-code).name if code < 0 else "ended with %d" % code
        return self.read(), "" if code == 0 else "crash: %s\n%s" % (how, self.log())

    def interrogate(self):
        """Lets a process that hangs say where, then ends it and what it started."""
        for number in (signal.SIGUSR1, signal.SIGQUIT):
            self.process.send_signal(number)
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                pass
        return self.log()

    def log(self, most=6000):
        with open(self.log_path, "rb") as log:
            return log.read()[-most:].decode("utf-8", "replace")

    def close(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        Process.running.discard(self.process.pid)
        shutil.rmtree(self.folder, ignore_errors=True)


def terminated(number, frame):
    """Whoever ends this program ends what it started, which is in sessions of its own."""
    for pid in list(Process.running):
        os.killpg(pid, signal.SIGKILL)
    os._exit(128 + number)


def outcomes(events):
    """({id: (kind, text)}, the id of the test that was running at the end or None, whether all were run)."""
    results, running, done = {}, None, False
    for kind, *rest in events:
        if kind == "start":
            running = rest[0]
        elif kind == "done":
            done = True
        else:
            results[rest[0]] = (kind, rest[1])
            running = None if rest[0] == running else running
    return results, running, done


def run_module(module, command, env, omitted, only=()):
    """Returns {id: (kind, text)} of a module, over as many processes as that takes."""
    results = {}
    for _ in range(MOST_PROCESSES):
        without = {i for i in results if i not in only} if not only else set()
        wanted = [i for i in only if i not in results]
        if only and not wanted:
            return results
        process = Process(command, env, module, ["+" + i for i in wanted] + ["-" + i for i in without] + ["~" + i for i in omitted])
        try:
            events, trouble = process.watch()
        finally:
            process.close()
        found, running, done = outcomes(events)
        results.update(found)
        if done or not trouble:
            if trouble:
                results[module.name + ": ends"] = (trouble.split("\n")[0].split(":")[0], trouble)
            return results
        stuck = running or module.name + ": starts"
        results[stuck] = (trouble.split("\n")[0].split(":")[0], trouble)
        if not running:
            return results
    results[module.name + ": ends"] = ("crash", "more than %d processes died" % MOST_PROCESSES)
    return results


class Judge:
    """Knows both ways to run, the exceptions, and what came out."""

    def __init__(self, options):
        self.options = options
        self.exceptions = exceptions()
        self.plain_command = [options.python]
        self.command = self.plain_command if options.plain else [options.python, "-m", "fibril", *options.option]
        self.plain_env = {k: v for k, v in os.environ.items() if not k.startswith("FIBRIL")}
        self.plain_env["PYTHONDONTWRITEBYTECODE"] = "1"
        self.env = dict(os.environ, PYTHONDONTWRITEBYTECODE="1", PYTHONPATH=os.path.abspath(options.path))

    def exception(self, test):
        return next((e for e in self.exceptions if fnmatch.fnmatchcase(test, e[0])), None)

    def omitted(self, module):
        """The patterns of what is not run."""
        prefix = "test.%s." % module.name
        return {e[0] for e in self.exceptions if not e[2] and e[0].startswith(prefix)} \
            if not self.options.plain else set()

    def judge(self, module):
        """Returns (module, seconds, [(verdict, id, kind, kind without, text)])."""
        begun = time.monotonic()
        mine = run_module(module, self.command, self.env, self.omitted(module))
        suspects = [i for i, (kind, _) in mine.items() if kind not in GOOD and kind != "omitted"]
        plain = {}
        if not self.options.plain and (suspects or self.options.both):
            skips_only = all(mine[i][0] == "skip" for i in suspects)
            if self.options.both or not skips_only or self.options.long:
                plain = self.without(module, suspects)
            else:
                plain = {i: mine[i] for i in suspects}  # the short run believes what a test says of the machine
        rows = []
        for test in list(dict.fromkeys([*mine, *plain])):
            kind, text = mine.get(test, ("missing", ""))
            other = plain.get(test, ("pass", ""))[0]
            rows.append((self.verdict(test, kind, other), test, kind, other, text))
        return module, time.monotonic() - begun, rows

    def without(self, module, suspects):
        plain_ids = [i for i in suspects if i.startswith("test.")]
        if self.options.both or len(plain_ids) != len(suspects):
            return run_module(module, self.plain_command, self.plain_env, set())
        return run_module(module, self.plain_command, self.plain_env, set(), plain_ids)

    def verdict(self, test, kind, other):
        if self.options.plain:
            return "passed" if kind in GOOD else "same"
        if kind == "omitted":
            return "listed"
        if kind in GOOD:
            return "passed"
        if other not in GOOD and (kind == other or {kind, other} <= {"fail", "error"}):
            return "same"
        if self.exception(test):
            return "listed"
        return "failed"


def show(judge, module, seconds, rows, label):
    count = collections.Counter(row[0] for row in rows)
    print("%s %-28s %4d passed, %d differ, %d listed, %d no pass without either   %.0f s"
          % (label, module.name, count["passed"], count["failed"], count["listed"], count["same"], seconds))
    for verdict, test, kind, other, text in rows:
        if verdict == "failed":
            print("    DIFFERS %s: %s, without fibril: %s" % (test, kind, other))
            for line in text.strip().splitlines()[-judge.options.lines:]:
                print("        " + line)
        elif verdict == "same" and kind != "skip" and judge.options.verbose:
            print("    the same without: %s: %s" % (test, kind))
    sys.stdout.flush()
    return count


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("modules", nargs="*", metavar="MODULE")
    p.add_argument("--long", action="store_true", help="the long modules too")
    p.add_argument("--plain", action="store_true", help="without fibril only: what this machine can do")
    p.add_argument("--both", action="store_true", help="run everything both ways, not only what did not pass")
    p.add_argument("--path", default=os.path.join(ROOT, "build", "release", "python"), metavar="DIR",
                   help="where the package fibril is")
    p.add_argument("--python", default="/usr/bin/python3")
    p.add_argument("--option", action="append", default=[], help="one more option of -m fibril")
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--lines", type=int, default=12, help="of what a test that differs said")
    p.add_argument("--verbose", action="store_true")
    p.add_argument("--json", metavar="FILE", help="writes every result there")
    p.add_argument("--label", default="")
    p.add_argument("--summary", metavar="FILE", help="adds a line of counts for ./dev test")
    return p.parse_args()


def chosen(options):
    known = read_modules()
    names = {m.name for m in known}
    for name in options.modules:
        if name not in names:
            known.append(Module(name, True, 60))
    wanted = [m for m in known if (m.name in options.modules if options.modules else options.long or not m.long)]
    there = subprocess.run(
        [options.python, "-c", "import importlib.util as u, sys; "
         "print([m for m in sys.argv[1:] if u.find_spec('test') and u.find_spec('test.' + m)])",
         *[m.name for m in wanted]], stdout=subprocess.PIPE, text=True, check=True).stdout
    absent = [m.name for m in wanted if repr(m.name) not in there]
    return [m for m in wanted if m.name not in absent], absent


def main():
    options = arguments()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, terminated)
    judge = Judge(options)
    modules, absent = chosen(options)
    begun, total, everything = time.monotonic(), collections.Counter(), {}
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for module, seconds, rows in pool.map(judge.judge, modules):
            total += show(judge, module, seconds, rows, options.label)
            everything[module.name] = rows
    for name in absent:
        print("%s %-28s skipped: this Python comes without it" % (options.label, name))
    print("%s %d modules: %d tests passed, %d differ, %d listed, %d no pass without either   %.0f s" % (
        options.label, len(modules), total["passed"], total["failed"], total["listed"], total["same"],
        time.monotonic() - begun))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(everything, out, indent=1)
    if options.summary:
        with open(options.summary, "a", encoding="utf-8") as out:
            out.write("conformance %d %d %d\n" % (total["passed"], total["failed"] + (not modules),
                                                  total["listed"] + total["same"] + len(absent)))
    return 1 if total["failed"] or not modules else 0


if __name__ == "__main__":
    sys.exit(main())
