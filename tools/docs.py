#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The documents: links that lead somewhere, programs that compile.

A block fenced as ```c that contains `int main(` is a program and must compile without a warning and link with
the library. Other blocks are fragments. With --tap BUILD_DIR it is the meson test `docs`.
"""

import os
import re
import subprocess
import sys
import tempfile

SKIPPED = {"build", ".git", "__pycache__", "node_modules"}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documents(root):
    for directory, below, found in os.walk(root):
        below[:] = sorted(set(below) - SKIPPED)
        yield from (os.path.join(directory, name) for name in sorted(found) if name.endswith(".md"))


def anchors(text):
    """The anchors that headings make, the usual way."""
    headings = re.findall(r"^#+\s+(.*?)\s*$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def read(path):
    with open(path, encoding="utf-8") as source:
        return source.read()


def broken_links(root):
    wrong = []
    for path in documents(root):
        text = FENCE.sub(lambda block: "\n" * block.group().count("\n"), read(path))
        for found in LINK.finditer(text):
            target, _, anchor = found.group(1).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            full = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
            where = f"{os.path.relpath(path, root)}:{text.count(chr(10), 0, found.start()) + 1}"
            if not os.path.exists(full):
                wrong.append(f"{where}: {found.group(1)} leads nowhere")
            elif anchor and full.endswith(".md") and anchor not in anchors(read(full)):
                wrong.append(f"{where}: {found.group(1)}: no such heading")
    return wrong


def programs(root):
    """(where, text) of each whole C program in the documents."""
    for path in documents(root):
        text = read(path)
        for found in FENCE.finditer(text):
            if found.group(1) == "c" and re.search(r"\bint main\(", found.group(2)):
                yield f"{os.path.relpath(path, root)}:{text.count(chr(10), 0, found.start()) + 1}", found.group(2)


def libraries_of(build):
    """What a program that links the static library needs besides, from the pkg-config file."""
    text = read(os.path.join(build, "meson-private/fibril.pc"))
    found = re.search(r"^Libs.private:(.*)$", text, re.MULTILINE)
    words = found.group(1).split() if found else []
    return [word for word in words if word.startswith(("-l", "-pthread"))] + (
        ["-lcares"] if re.search(r"^Requires.private:.*cares", text, re.MULTILINE) else [])


def failing_programs(root, cc, build, scratch):
    wrong = []
    for where, text in programs(root):
        source = os.path.join(scratch, "program.c")
        with open(source, "w", encoding="utf-8") as out:
            out.write(text)
        layer = [os.path.join(build, "src/libfibril-posix.a")] if "<fibril/posix.h>" in text else []
        done = subprocess.run([*cc.split(), "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror",
                               f"-I{root}/include", source, "-o",
                               os.path.join(scratch, "program"), *layer, os.path.join(build, "src/libfibril.a"),
                               *libraries_of(build)], capture_output=True, text=True, check=False)
        if done.returncode:
            wrong += [f"{where}: {line}" for line in done.stderr.splitlines()[:6]]
    return wrong


def main(build, cc):
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    with tempfile.TemporaryDirectory() as scratch:
        results = (("links lead somewhere", broken_links(root)),
                   ("programs in the documents compile", failing_programs(root, cc, build, scratch)))
    print("1..2")
    for number, (what, wrong) in enumerate(results, 1):
        print(f"{'not ok' if wrong else 'ok'} {number} - {what}")
        for line in wrong:
            print(f"# {line}")
            print(line, file=sys.stderr)
    return 1 if any(wrong for _, wrong in results) else 0


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "--tap":
        sys.exit("usage: docs.py --tap BUILD_DIR CC")
    sys.exit(main(sys.argv[2], sys.argv[3]))
