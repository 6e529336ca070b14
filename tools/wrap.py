#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Wraps block comments that stand alone and are wider than the tree allows; ./dev check --fix calls it.

clang-format would do it too, but it forgets how deep the rest of a list item is indented. A paragraph is
touched only from its first line that is too long, so tables and drawings that fit stay as they are.
"""

import re
import sys

MAX_COLUMNS = 100
ITEM = re.compile(r"^(\s*)((?:[-*]|\d+\.)\s+)(?=\S)")


def split_line(line):
    """A comment line as (what every line of it begins with, the text), or None for any other line."""
    found = re.match(r"^(\s*)(/\*|\*) (.*)$", line)
    if not found:
        return None
    lead = found.group(1) + (" * " if found.group(2) == "/*" else "* ")
    return lead, found.group(3)


def hanging(text):
    """How deep the lines after this one are indented."""
    item = ITEM.match(text)
    return len(item.group(0)) if item else len(text) - len(text.lstrip())


def shorter_rule(line):
    """A line like the one above a section, its dashes cut to fit."""
    excess = len(line) - MAX_COLUMNS
    found = re.match(r"^(.*[^-])(-{8,})( \*/)$", line)
    fits = found and 0 < excess < len(found.group(2)) - 3
    return found.group(1) + found.group(2)[excess:] + found.group(3) if fits else line


def wrap(lines):
    """The lines of a file, wrapped."""
    result = []
    index = 0
    inside = False
    while index < len(lines):
        line = lines[index]
        index += 1
        starts = re.match(r"^\s*/\*( |$)", line)
        alone = starts or inside
        parts = split_line(line) if alone else None
        ends = "*/" in line
        inside = (inside or bool(starts)) and not ends
        line = shorter_rule(line)
        result.append(line)
        if not parts or len(line) <= MAX_COLUMNS or not line.rstrip().endswith("*/") and ends:
            continue
        lead, text = parts
        depth = hanging(text)
        head = result.pop()
        while len(head) > MAX_COLUMNS:
            at = head.rfind(" ", len(lead) + depth + 1, MAX_COLUMNS + 1)
            if at < 0:
                break
            result.append(head[:at].rstrip())
            rest = head[at:].strip()
            following = split_line(lines[index]) if inside and index < len(lines) else None
            joins = (following and following[1] != "/" and not ITEM.match(following[1]) and
                     len(following[1]) - len(following[1].lstrip()) == depth)
            if joins and len(head[at:].strip()) < MAX_COLUMNS:
                rest += " " + following[1].strip()
                inside = "*/" not in lines[index]
                index += 1
            head = lead + " " * depth + rest
            if head.strip() == "*/" or head.strip() == "* */":
                result[-1] += " */"
                head = None
                break
        if head is not None:
            result.append(head)
    return result


def main(paths):
    for path in paths:
        with open(path, encoding="utf-8") as source:
            before = source.read()
        after = "\n".join(wrap(before.split("\n")))
        if after != before:
            with open(path, "w", encoding="utf-8") as out:
                out.write(after)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
