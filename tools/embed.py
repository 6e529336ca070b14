#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Makes a C file of the demo site's files: embed.py OUTPUT FILE..., or of one: embed.py --array NAME OUTPUT FILE

Bytes and not a string literal, because compilers limit the length of those and a file may hold anything. The
file called index.html is served as /.
"""

import os
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def array(number, content):
    """The bytes of one file, twenty a line."""
    lines = [", ".join(str(byte) for byte in content[at:at + 20]) for at in range(0, len(content), 20)]
    return f"static const unsigned char file_{number}[] = {{\n    " + ",\n    ".join(lines) + "};\n"


def entry(number, path, content):
    name = os.path.basename(path)
    served = "/" if name == "index.html" else "/" + name
    return f'    {{"{served}", "{TYPES[os.path.splitext(name)[1]]}", file_{number}, {len(content)}}},\n'


def main(output, *paths):
    contents = []
    for path in paths:
        with open(path, "rb") as file:
            contents.append(file.read())
    with open(output, "w", encoding="ascii") as file:
        file.write("/* Made by tools/embed.py from cli/site. */\n#include \"site.h\"\n\n")
        file.writelines(array(number, content) for number, content in enumerate(contents))
        file.write("\nconst struct site_file site_files[] = {\n")
        file.writelines(entry(number, path, contents[number]) for number, path in enumerate(paths))
        file.write("    {NULL, NULL, NULL, 0}};\n")


def one(name, output, path):
    """One file as an array and its length, declared in src/observe/page.h."""
    with open(path, "rb") as file:
        content = file.read()
    with open(output, "w", encoding="ascii") as file:
        file.write("/* Made by tools/embed.py. */\n#include \"observe/page.h\"\n\n")
        file.write(array(0, content).replace("static const unsigned char file_0", f"const unsigned char {name}"))
        file.write(f"\nconst size_t {name}_len = {len(content)};\n")


if __name__ == "__main__":
    if len(sys.argv) == 5 and sys.argv[1] == "--array":
        sys.exit(one(*sys.argv[2:]))
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
