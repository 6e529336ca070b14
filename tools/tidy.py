#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The rules of the tree that no compiler checks: floors, forms and words.

Usage: tidy.py [ROOT]. Prints one line per offence (FILE:LINE: what), exits 1 if there is any. With --tap it
prints one TAP line per rule instead. Each rule is a function from a file to offences; RULES lists them.

The floors are those of docs/design.md: a file includes its own floor and those below it, and a .c includes
its own header first. Exceptions are listed here, with the reason, and nowhere else.
"""

import os
import re
import sys

FOLDERS = ("include", "src", "cli", "tests", "fuzz", "bench", "examples", "tools", "docs", ".ci")
SKIPPED = {"build", "__pycache__", "corpus", "samples", ".git"}
MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70

# What the files of a floor may include, in quotes, besides public headers.
FLOORS = {
    "base": {"base"},
    "arch": {"arch", "base"},
    "ctx": {"ctx", "arch", "base"},
    "poll": {"poll", "base"},
    "sched": {"sched", "ctx", "poll", "base"},
    "sync": {"sync", "sched", "ctx", "poll", "base"},
    "io": {"io", "sched", "ctx", "poll", "base"},
    "debug": {"debug", "io", "sync", "sched", "ctx", "poll", "base"},
    "posix": {"posix", "base"},
    "http": {"http", "base"},
    "actor": {"actor", "base"},
    "observe": {"observe", "debug", "actor", "base"},
}

# errno belongs to the floors that call the kernel; these files elsewhere do so too.
ERRNO_FLOORS = ("src/io/", "src/poll/", "src/posix/", "src/base/clock.")
ERRNO_FILES = {"src/debug/debug.c": "sigaltstack",
               "src/debug/dump.c": "a signal handler leaves errno as it was",
               "src/debug/stall.c": "a signal handler leaves errno as it was"}
# A thread-local read before a switch and used after it may be another thread's.
THREAD_LOCAL_FILES = {"src/sched/current.c": "the one home of the current loop",
                      "src/sched/current.h": "the one home of the current loop",
                      "src/actor/actor.h": "what the loop of this OS thread has of the floor, read first by each call",
                      "src/actor/table.c": "what the loop of this OS thread has of the floor, read first by each call",
                      "src/base/turns.c": "the place of this OS thread among those in turns",
                      "src/posix/layer.c": "what a covered call is on this OS thread, read first by each",
                      "src/posix/layer.h": "what a covered call is on this OS thread, read first by each",
                      "src/posix/load.c": "what is to be done under the loader's lock",
                      "src/posix/thread.c": "the identity of the loop's OS thread",
                      "src/posix/layer.c": "what covered calls are on this OS thread",
                      "src/posix/layer.h": "what covered calls are on this OS thread",
                      "src/posix/load.c": "handed to a resolver that the loader calls; nothing parks",
                      "src/posix/locals.c": "where the thread-locals of this OS thread are",
                      "src/posix/thread.c": "the number and the main thread of this OS thread",
                      "src/posix/thread_record.c": "the records that this OS thread keeps for the next ones",
                      "src/posix/fork.c": "whose vfork is under way; no fibril parks in between",
                      "src/posix/signal.c": "what a handler has to tell the loop of its OS thread"}
# Outside the house, and yet inside it.
INSIDERS = {"bench/http_parse.c": "measures the parser alone, beside the parsers of others",
            "bench/posix.c": "measures covered calls beside libc's own"}
ALLOCATORS = ("src/base/alloc.",)

THREAD_LOCAL = "_Thread" + "_local"
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X")
MACHINE_PATHS = ("/ho" + "me/", "/ro" + "ot/", "/Us" + "ers/", "/wo" + "rk/")


class File:
    """One source file: its path from the root, its lines, and the lines without comments and strings."""

    def __init__(self, root, path):
        self.path = path
        self.root = root
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as source:
            self.text = source.read()
        self.lines = self.text.split("\n")
        if self.lines and not self.lines[-1]:
            self.lines.pop()
        self.is_c = path.endswith((".c", ".h"))
        self.code = blank(self.text).split("\n") if self.is_c else self.lines

    def floor(self):
        parts = self.path.split("/")
        return parts[1] if parts[0] == "src" and len(parts) > 2 else None

    def includes(self):
        """(line number, name, quoted) of every #include."""
        for number, line in enumerate(self.lines, 1):
            found = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
            if found:
                yield number, found.group(2), found.group(1) == '"'


TOKENS = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def blank(text):
    """C text in which comments and literals have become spaces, line for line."""
    return TOKENS.sub(lambda token: re.sub(r"[^\n]", " ", token.group()), text)


# ---- the rules: each yields (line, offence) ----------------------------------------------------------


def floors(file):
    """includes go down the house"""
    floor = file.floor()
    if not file.is_c or not floor:
        return
    if floor not in FLOORS:
        yield 1, f"src/{floor} is no floor that tools/tidy.py knows"
        return
    for number, name, quoted in file.includes():
        if not quoted:
            continue
        target = name.split("/")[0]
        if "/" not in name:
            yield number, f'"{name}" is included without its floor'
        elif target not in FLOORS[floor]:
            yield number, f"{floor} includes {name}: {target} is not below it"


def outsiders(file):
    """public headers, command, examples and benchmarks see public headers only"""
    top = file.path.split("/")[0]
    if not file.is_c or top not in ("include", "cli", "examples", "bench") or file.path in INSIDERS:
        return
    for number, name, quoted in file.includes():
        here = os.path.join(file.root, os.path.dirname(file.path), name)
        below = top != "include" and (os.path.exists(here) or
                                      os.path.exists(os.path.join(file.root, top, name)))
        if quoted and not below:
            yield number, f"{top} includes {name}, which is not public"


def own_header(file):
    """a .c file includes its own header first"""
    if not file.path.endswith(".c") or not file.floor():
        return
    header = file.path[:-2] + ".h"
    first = next(file.includes(), (1, "", True))
    if os.path.exists(os.path.join(file.root, header)) and "src/" + first[1] != header:
        yield first[0], f"its own header {header[4:]} must be its first include"


def columns(file):
    """no line is longer than 100 columns"""
    if file.path.endswith((".c", ".h", ".S", ".sh", ".py")):
        limit = MAX_COLUMNS if not file.path.endswith(".py") else 120
        for number, line in enumerate(file.lines, 1):
            if len(line) > limit:
                yield number, f"{len(line)} columns, {limit} at most"


def function_lines(file):
    """no function is longer than 70 lines"""
    if not file.path.endswith(".c"):
        return
    depth, start, before = 0, 0, ""
    for number, line in enumerate(file.code, 1):
        if line.lstrip().startswith("#") or line.rstrip().endswith("\\"):
            continue
        for character in line:
            if character == "{":
                start = number if depth == 0 else start
                depth += 1
            elif character == "}":
                depth -= 1
                lines = number - start - 1
                if depth == 0 and is_function(before) and lines > MAX_FUNCTION_LINES:
                    yield start, f"a function of {lines} lines, {MAX_FUNCTION_LINES} at most"
            if depth == 0:
                before = "" if character in ";}" else before + character


def is_function(text):
    """Whether what stands before an opening brace at the top of a file begins a function."""
    return ")" in text and "=" not in text.split("(")[0]


def errno(file):
    """errno stays on the floors that call the kernel"""
    if not file.floor() or not file.is_c:
        return
    if file.path.startswith(ERRNO_FLOORS) or file.path in ERRNO_FILES:
        return
    for number, line in enumerate(file.code, 1):
        if re.search(r"\berrno\b", line) and not line.lstrip().startswith("#"):
            yield number, "errno is used here"


def thread_locals(file):
    """thread-local variables live in sched/current"""
    if not file.floor() or not file.is_c or file.path in THREAD_LOCAL_FILES:
        return
    for number, line in enumerate(file.code, 1):
        if re.search(rf"\b({THREAD_LOCAL}|__thread|thread_local)\b", line):
            yield number, "a thread-local variable"


def allocation(file):
    """all memory comes through base/alloc"""
    if not file.floor() or not file.is_c or file.path.startswith(ALLOCATORS):
        return
    for number, line in enumerate(file.code, 1):
        called = re.search(r"(?<![\w.>])(malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|"
                           r"posix_memalign|aligned_alloc)\s*\(", line)
        if called:
            yield number, f"{called.group(1)}() beside base/alloc"


def unsafe_calls(file):
    """no call that cannot be told how much room there is, or that shares hidden state"""
    if not file.is_c:
        return
    for number, line in enumerate(file.code, 1):
        called = re.search(r"(?<![\w.>])(strcpy|strcat|sprintf|vsprintf|gets|stpcpy|strtok|localtime|gmtime|"
                           r"ctime|asctime|rand|gethostbyname|inet_ntoa|ttyname|readdir_r)\s*\(", line)
        if called:
            yield number, f"{called.group(1)}()"


def unfinished(file):
    """nothing is left unfinished"""
    for number, line in enumerate(file.lines, 1):
        for word in UNFINISHED:
            # X's are also what mkstemp asks for: a word of exactly three, standing alone.
            if re.search(rf"(?<![\w.]){word}(?!\w)", line):
                yield number, f"{word}: finish it, or file an issue"


def licence(file):
    """the licence is named on top"""
    if file.path.endswith((".c", ".h", ".S", ".py", ".sh")):
        if not any("SPDX-License-Identifier: MIT" in line for line in file.lines[:3]):
            yield 1, "no SPDX line on top"


def machine_paths(file):
    """no path of one machine is written down"""
    for number, line in enumerate(file.lines, 1):
        for path in MACHINE_PATHS:
            if re.search(rf"(?<![\w.$}}/-]){path}\w", line):
                yield number, f"a path of one machine: {path}"


def white_space(file):
    """no tab, no space at a line's end, and a newline at the file's end"""
    for number, line in enumerate(file.lines, 1):
        if line != line.rstrip():
            yield number, "white space at the end of the line"
        if file.is_c and "\t" in line:
            yield number, "a tab"
    if file.text and not file.text.endswith("\n"):
        yield len(file.lines), "no newline at the end of the file"


def line_comments(file):
    """comments are /* */"""
    if not file.is_c:
        return
    without = re.sub(r"/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'",
                     lambda token: re.sub(r"[^\n]", " ", token.group()), file.text, flags=re.DOTALL)
    for number, line in enumerate(without.split("\n"), 1):
        if "//" in line:
            yield number, "a // comment: these are for debugging"


def headings(file):
    """a heading is one line"""
    for number, line in enumerate(file.lines, 1):
        if file.is_c and re.match(r" \* -{4,}", line):
            yield number, "a heading that was broken in two: fewer dashes"


RULES = (floors, outsiders, own_header, columns, function_lines, errno, thread_locals, allocation,
         unsafe_calls, unfinished, licence, machine_paths, white_space, line_comments, headings)

# ---- the walk ------------------------------------------------------------------------------------


def files_of(root):
    """Every text file of ours, in order."""
    wanted = (".c", ".h", ".S", ".py", ".sh", ".md", ".build", ".txt", ".ini", ".map", ".supp")
    for name in sorted(os.listdir(root)):
        if os.path.isfile(os.path.join(root, name)) and name.endswith(wanted):
            yield File(root, name)
    for folder in FOLDERS:
        for directory, below, names in os.walk(os.path.join(root, folder)):
            below[:] = sorted(set(below) - SKIPPED)
            for name in sorted(names):
                if name.endswith(wanted):
                    yield File(root, os.path.relpath(os.path.join(directory, name), root))


def offences(root):
    """(rule, path, line, offence) for the whole tree."""
    for file in files_of(root):
        for rule in RULES:
            for line, offence in rule(file):
                yield rule, file.path, line, offence


def print_tap(found):
    print(f"1..{len(RULES)}")
    for number, rule in enumerate(RULES, 1):
        mine = [f"{path}:{line}: {offence}" for each, path, line, offence in found if each is rule]
        print(f"{'not ok' if mine else 'ok'} {number} - {rule.__doc__}")
        for text in mine:
            print(f"# {text}")
            print(text, file=sys.stderr)


def main(arguments):
    tap = "--tap" in arguments
    roots = [argument for argument in arguments if argument != "--tap"]
    default = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = list(offences(roots[0] if roots else default))
    if tap:
        print_tap(found)
    else:
        for _, path, line, offence in found:
            print(f"{path}:{line}: {offence}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
