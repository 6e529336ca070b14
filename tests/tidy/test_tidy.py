#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Every rule of tools/tidy.py must catch its bad sample, on the right line, and let the good ones pass.

Each sample is a tree of its own: one file (and what it needs around it) under the licence line. Prints TAP.
"""

import os
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import tidy  # noqa: E402

SPDX = "/* SPDX-License-Identifier: MIT */\n"
LONG = "    step();\n"

# rule, what is wrong, path, text below the licence line, line of the offence, other files
BAD = (
    ("floors", "a lower floor includes a higher one", "src/base/a.c", '#include "sched/loop.h"\n', 2),
    ("floors", "siblings include each other", "src/sync/a.c", '#include "io/fd.h"\n', 2),
    ("floors", "ctx includes poll", "src/ctx/a.h", '#include "poll/poll.h"\n', 2),
    ("floors", "poll includes ctx", "src/poll/a.h", '#include "ctx/context.h"\n', 2),
    ("floors", "the switch is used beside ctx", "src/sched/a.c", '#include "arch/switch.h"\n', 2),
    ("floors", "http sees inside the scheduler", "src/http/a.c", '#include "sched/loop.h"\n', 2),
    ("floors", "actor sees inside sync", "src/actor/a.c", '#  include "sync/chan.h"\n', 2),
    ("floors", "an include without its floor", "src/http/a.c", '#include "b.h"\n', 2),
    ("floors", "a folder that is no floor", "src/attic/a.c", "int a;\n", 1),
    ("outsiders", "the command sees inside", "cli/a.c", '#include "base/list.h"\n', 2),
    ("outsiders", "an example sees inside", "examples/a.c", '#include "sched/loop.h"\n', 2),
    ("outsiders", "a public header includes an inner one", "include/fibril/a.h", '#include "base/a.h"\n', 2),
    ("own_header", "its own header comes second", "src/io/a.c",
     '#include <stdio.h>\n#include "io/a.h"\n', 2, {"src/io/a.h": ""}),
    ("columns", "101 columns", "tests/a.c", "/* " + "x" * 96 + "*/\n", 2),
    ("function_lines", "71 lines", "src/io/a.c", "int a(void)\n{\n" + LONG * 71 + "}\n", 3),
    ("function_lines", "71 lines, brace on the line of the name", "src/io/a.c",
     "int a(void) {\n" + LONG * 71 + "}\n", 2),
    ("errno", "errno in the scheduler", "src/sched/a.c", "int a(void)\n{\n    return -errno;\n}\n", 4),
    ("thread_locals", "C11's word", "src/io/a.c", "static " + tidy.THREAD_LOCAL + " int a;\n", 2),
    ("thread_locals", "gcc's word", "src/ctx/a.c", "static __thread int a;\n", 2),
    ("allocation", "malloc", "src/io/a.c", "void *a = malloc(3);\n", 2),
    ("allocation", "free", "src/http/a.c", "    free (a);\n", 2),
    ("allocation", "strdup", "src/sched/a.c", "    x = strdup(a);\n", 2),
    ("unsafe_calls", "strcpy", "cli/a.c", "    strcpy(a, b);\n", 2),
    ("unsafe_calls", "sprintf", "tests/a.c", "    sprintf(a, b);\n", 2),
    ("unsafe_calls", "gmtime", "src/http/a.c", "    t = gmtime(&now);\n", 2),
    ("unfinished", "a note to self", "docs/a.md", "Later. " + tidy.UNFINISHED[0] + ": write this\n", 2),
    ("unfinished", "another", "src/io/a.c", "/* " + tidy.UNFINISHED[1] + " */\n", 2),
    ("licence", "no licence", "src/io/b.c", "int a;\n", 1),
    ("machine_paths", "somebody's home", "docs/a.md", "See " + tidy.MACHINE_PATHS[0] + "me/x\n", 2),
    ("machine_paths", "a checkout", "tests/a.py", "x = '" + tidy.MACHINE_PATHS[3] + "main'\n", 2),
    ("white_space", "space at the end", "src/io/a.c", "int a; \n", 2),
    ("white_space", "a tab", "src/io/a.c", "\tint a;\n", 2),
    ("white_space", "no newline", "src/io/a.c", "int a;", 2),
    ("line_comments", "a // comment", "src/io/a.c", "int a; // one\n", 2),
    ("headings", "a heading in two lines", "src/io/a.c", "/* ---- Reading\n * -------- */\n", 3),
)

# what is right, path, text
GOOD = (
    ("a file may include its own floor and lower ones", "src/sched/a.c",
     '#include "sched/a.h"\n#include "ctx/b.h"\n#include "poll/c.h"\n#include <fibril/fibril.h>\n'),
    ("words in comments and strings are no code", "src/sched/a.c",
     'const char *a = "errno malloc(1) // strcpy("; /* errno, free(x), ' + tidy.THREAD_LOCAL + " */\n"),
    ("functions of ours may end in banned names", "src/http/a.c", "    fibril__free(a); x.free(b);\n"),
    ("the I/O floor may read errno", "src/io/a.c", "    return -errno;\n"),
    ("the allocator may allocate", "src/base/alloc.c", "    return malloc(3);\n"),
    ("names of codes are no errno", "src/sched/a.c", "#include <errno.h>\nint a = -EINVAL;\n"),
    ("100 columns and 70 lines are allowed", "src/io/a.c",
     "/* " + "x" * 95 + "*/\nint a(void)\n{\n" + LONG * 70 + "}\n"),
    ("a long table is no function", "src/io/a.c", "static const int a[] = {\n" + "    1,\n" * 90 + "};\n"),
    ("a template for mkdtemp is finished", "tests/a.c", 'char a[] = "/tmp/a.XXXXXX";\n'),
    ("paths below a folder called so are nobody's", "docs/a.md", "build/home/x and $HOME/work/x\n"),
)


def offences(path, text, others):
    with tempfile.TemporaryDirectory() as root:
        licence = "" if path.endswith("/b.c") else "# " + SPDX[3:-4] + "\n" if path.endswith(".py") else SPDX
        for name, content in {**others, path: licence + text}.items():
            full = os.path.join(root, name)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as out:
                out.write(content or SPDX)
        return [(rule.__name__, line) for rule, at, line, _ in tidy.offences(root) if at == path]


def main():
    results = []
    for rule, what, path, text, line, *others in BAD:
        found = offences(path, text, others[0] if others else {})
        results.append((found == [(rule, line)], f"{rule} catches: {what}", found))
    for what, path, text in GOOD:
        found = offences(path, text, {})
        results.append((not found, what, found))
    covered = {bad[0] for bad in BAD}
    missing = sorted(rule.__name__ for rule in tidy.RULES if rule.__name__ not in covered)
    results.append((not missing, "every rule has a bad sample", missing))
    print(f"1..{len(results)}")
    for number, (good, what, found) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} - {what}")
        if not good:
            print(f"# found {found}")
            print(f"{what}: found {found}", file=sys.stderr)
    return 0 if all(good for good, _, _ in results) else 1


if __name__ == "__main__":
    sys.exit(main())
