#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The checks of public names and of documents must catch what they are for. Prints TAP."""

import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools"))
import docs  # noqa: E402
import names  # noqa: E402
import wrap  # noqa: E402

HEADER = """/* A header. */
#include <stddef.h>
#define FIBRIL_API

/* Has a contract
 * of two lines. */
FIBRIL_API int fibril_a(int x,
                        const char *y);
FIBRIL_API void fibril_b(void);

FIBRIL_API void *fibril_c(void);
FIBRIL_API extern const char fibril_d[]; /* beside it */
/* FIBRIL_API int fibril_no(void); */
"""

DOCUMENT = """# The title, and more

[good](other.md) [anchored](#the-title-and-more) [out](https://example.org/x) [bad](missing.md)
[worse](other.md#nowhere)

```c
int main(void) { return missing; }
```
```c
fragment, not a program
```
```
[not a link](nowhere.md)
```
"""


def write(root, path, text):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as out:
        out.write(text)


def observations(root):
    """(what, whether it is so) one after the other."""
    write(root, "include/fibril/a.h", HEADER)
    write(root, "docs/a.md", DOCUMENT)
    write(root, "docs/other.md", "# Other\n")
    declared = dict(names.declared_in(os.path.join(root, "include/fibril/a.h")))
    yield "declarations are found with their lines", declared == {
        "fibril_a": 7, "fibril_b": 9, "fibril_c": 11, "fibril_d": 12}
    yield "a declaration without a contract is caught", [
        line.split(": ")[1].split()[0] for line in names.undocumented(root)] == ["fibril_c"]
    yield "a library that is not there is caught", len(
        names.wrong_exports(root, root + "/lib.so", lambda header: True)) == 1
    write(root, "lib.c", "int fibril_a, fibril_b, fibril_c, fibril__x, fibril_new, other;\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", root + "/lib.so", root + "/lib.c"], check=True)
    yield "leaked, unknown and missing symbols are caught", [
        line.split()[0] for line in names.wrong_exports(root, root + "/lib.so", lambda header: True)] == [
            "fibril__x", "other", "fibril__x", "fibril_new", "other", "fibril_d"]
    yield "headers that compile pass", not names.headers_that_fail(root, "cc", None)
    write(root, "include/fibril/b.h", "struct a *f(size_t x);\n")
    yield "a header that needs another first is caught", len(names.headers_that_fail(root, "cc", None)) > 0

    broken = docs.broken_links(root)
    yield "links that lead nowhere are caught, with their lines", [
        line.split(" ")[0] + line.split(" ")[1] for line in broken] == [
            "docs/a.md:3:missing.md", "docs/a.md:4:other.md#nowhere:"]
    yield "whole programs are told from fragments", len(list(docs.programs(root))) == 1
    write(root, "build/meson-private/fibril.pc", "Libs.private: -pthread\n")
    yield "a program that does not compile is caught", any(
        "docs/a.md:6" in line for line in docs.failing_programs(root, "cc", root + "/build", root))

    long = "x" * 60 + " " + "y" * 45
    yield "a comment that is too wide is wrapped", wrap.wrap([f"/* {long} */"]) == [
        "/* " + "x" * 60, " * " + "y" * 45 + " */"]
    yield "the rest of a list item keeps its depth", wrap.wrap(["/*", f" *   - {long}", " *     z", " */"]) == [
        "/*", " *   - " + "x" * 60, " *     " + "y" * 45 + " z", " */"]
    table = ["/*", " * a | b", " * --+--", " */", 'char *s = "/* ' + long + '";']
    yield "what fits and what is no comment stays", wrap.wrap(table) == table


def main():
    with tempfile.TemporaryDirectory() as root:
        results = list(observations(root))
    print(f"1..{len(results)}")
    for number, (what, good) in enumerate(results, 1):
        print(f"{'ok' if good else 'not ok'} {number} - {what}")
    return 0 if all(good for _, good in results) else 1


if __name__ == "__main__":
    sys.exit(main())
