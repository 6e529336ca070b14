#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The public names: what the headers declare, what the library exports, and that both agree.

The headers in include/fibril are the contract. A symbol that is exported and declared nowhere is a leak; a
function that is declared and not exported is a promise that the linker breaks.
"""

import os
import re
import subprocess

DECLARATION = re.compile(r"^FIBRIL_API\b([^;{]*)[;{]", re.MULTILINE)
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def public_headers(root):
    folder = os.path.join(root, "include/fibril")
    return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".h")]


def declared_in(path):
    """Names of the functions and objects that a header declares for the outside, with their lines."""
    with open(path, encoding="utf-8") as source:
        text = COMMENT.sub(lambda comment: re.sub(r"[^\n]", " ", comment.group()), source.read())
    for found in DECLARATION.finditer(text):
        name = re.search(r"(\w+)\s*(?:\(|\[|$)", found.group(1).strip())
        if name:
            yield name.group(1), text.count("\n", 0, found.start()) + 1


def exported_by(library):
    output = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    symbols = (line.split() for line in output.stdout.splitlines())
    return {words[2].split("@")[0] for words in symbols if len(words) == 3 and words[1] != "A"}


# Exported though nobody is to call it.
INTERNAL = {"fibril__loader_locked": "dlsym finds it, and so runs its resolver under the loader's lock"}


def wrong_exports(root, library, headers):
    """headers: a predicate that says of which of the public headers the library is."""
    if not os.path.exists(library):
        return [f"{os.path.relpath(library, root)} is not built"]
    declared = {name for header in public_headers(root) if headers(os.path.basename(header))
                for name, _ in declared_in(header)}
    exported = exported_by(library) - set(INTERNAL)
    wrong = [f"{name} is exported and not a public name" for name in sorted(exported)
             if not name.startswith("fibril_") or name.startswith("fibril__")]
    wrong += [f"{name} is exported and in no public header" for name in sorted(exported - declared)]
    wrong += [f"{name} is declared and not exported" for name in sorted(declared - exported)]
    return wrong


def headers_that_fail(root, cc, cxx):
    """Strict C11 with the names of POSIX, which io.h speaks of, and C++."""
    wrong = []
    compilers = [(cc, ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-x", "c"])]
    compilers += [(cxx, ["-std=c++17", "-x", "c++"])] if cxx else []
    for header in public_headers(root):
        for compiler, flags in compilers:
            done = subprocess.run([*compiler.split(), *flags, "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                                   "-fsyntax-only", f"-I{root}/include", "-"],
                                  input=f"#include <fibril/{os.path.basename(header)}>\nint main(void);\n",
                                  capture_output=True, text=True, check=False)
            if done.returncode:
                name = os.path.relpath(header, root)
                wrong += [f"{name} as {flags[0][5:]}: {line}" for line in done.stderr.splitlines()[:4]]
    return wrong


def undocumented(root):
    """A contract is a comment that ends on the line above, or above the group without a blank line between.

    Constructors and destructors have theirs at the head of their section: they are all alike.
    """
    wrong = []
    for header in public_headers(root):
        with open(header, encoding="utf-8") as source:
            lines = source.read().split("\n")
        for name, number in declared_in(header):
            at = number - 1
            documented = "/*" in lines[at]
            while not documented and at > 0 and lines[at - 1].strip():
                at -= 1
                documented = "*/" in lines[at]
            if not documented and not name.endswith(("_new", "_free")):
                wrong.append(f"{os.path.relpath(header, root)}:{number}: {name} has no contract")
    return wrong
