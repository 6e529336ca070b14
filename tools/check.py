#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What ./dev check does: everything that can be said of the tree without running it.

Each check is one line of output, with what is wrong below it; the last line counts them as ./dev test does.
It needs build/release (built) and build/clang (configured), which ./dev makes first.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import docs
import names

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
C_FOLDERS = ("include", "src", "cli", "tests", "fuzz", "bench", "examples")


def first_of(*candidates):
    """The first of these commands that exists, or None."""
    return next((name for name in candidates if shutil.which(name)), None)


def run(*command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def c_files(*endings):
    for folder in C_FOLDERS:
        for directory, _, found in os.walk(os.path.join(ROOT, folder)):
            yield from (os.path.join(directory, name) for name in sorted(found) if name.endswith(endings))


def fix():
    """Formats every C file in place."""
    run(sys.executable, "tools/wrap.py", *c_files(".c", ".h", ".S"))
    run(first_of("clang-format-14", "clang-format"), "-i", *c_files(".c", ".h"))


# ---- the checks: each returns what is wrong, or None when the tool is not here -----------------------


def check_format():
    """format (.clang-format)"""
    tool = first_of("clang-format-14", "clang-format")
    if not tool:
        return None
    status, output = run(tool, "--dry-run", "--Werror", *c_files(".c", ".h"))
    wrong = sorted({os.path.relpath(line.split(":")[0], ROOT) for line in output.splitlines()
                    if " error: " in line})
    return [f"{path}: ./dev check --fix formats it" for path in wrong] if status else []


def check_clang_tidy():
    """clang-tidy (.clang-tidy)"""
    runner = first_of("run-clang-tidy-14", "run-clang-tidy")
    if not runner:
        return None
    with open(os.path.join(ROOT, "build/clang/compile_commands.json"), encoding="utf-8") as database:
        entries = json.load(database)
    paths = {os.path.realpath(os.path.join(entry["directory"], entry["file"])) for entry in entries}
    ours = sorted(path for path in paths if path.endswith(".c") and
                  os.path.relpath(path, ROOT).startswith(("src/", "cli/", "examples/")))
    if not ours:
        return []
    status, output = run(runner, "-quiet", "-p", "build/clang", "-j", str(os.cpu_count() or 2),
                    *(f"^{re.escape(path)}$" for path in ours))
    output = re.sub(r"\x1b\[[0-9;]*m", "", output)  # coloured even into a pipe
    found = {re.sub(r"^.*?((?:src|cli|examples|include)/)", r"\1", line) for line in output.splitlines()
             if re.search(r": (error|warning): ", line)}
    return sorted(found) or (output.splitlines()[-10:] if status else [])


def check_tidy():
    """floors, forms and words (tools/tidy.py)"""
    status, output = run(sys.executable, "tools/tidy.py")
    return output.splitlines() if status else []


def check_tidy_rules():
    """the checker itself (tests/tidy)"""
    status, output = run(sys.executable, "tests/tidy/test_tidy.py")
    return [line for line in output.splitlines() if line.startswith("not ok")] or ["it fails"] if status else []


def check_exports():
    """the libraries export what the public headers declare, no more and no less"""
    built = os.path.join(ROOT, "build/release/src")
    return names.wrong_exports(ROOT, f"{built}/libfibril.so", lambda header: header != "posix.h") + \
        names.wrong_exports(ROOT, f"{built}/libfibril-posix.so", lambda header: header == "posix.h")


def check_headers():
    """each public header compiles alone, as C11 and as C++"""
    return names.headers_that_fail(ROOT, os.environ.get("CC", "cc"), first_of("g++", "c++"))


def check_contracts():
    """each public function has its contract above it"""
    return names.undocumented(ROOT)


def check_links():
    """relative links in the documents lead somewhere"""
    return docs.broken_links(ROOT)


def check_examples():
    """the C programs in the README compile"""
    with tempfile.TemporaryDirectory() as scratch:
        return docs.failing_programs(ROOT, os.environ.get("CC", "cc"),
                                     os.path.join(ROOT, "build/release"), scratch)


CHECKS = (check_format, check_tidy, check_tidy_rules, check_exports, check_headers, check_contracts,
          check_links, check_examples, check_clang_tidy)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fix", action="store_true")
    if parser.parse_args().fix:
        fix()
    passed = failed = skipped = 0
    for check in CHECKS:
        wrong = check()
        if wrong is None:
            skipped += 1
            print(f"skipped  {check.__doc__}: the tool is not here", flush=True)
        elif wrong:
            failed += 1
            print(f"FAILED   {check.__doc__}", flush=True)
            for line in wrong[:40]:
                print(f"    {line}")
            if len(wrong) > 40:
                print(f"    and {len(wrong) - 40} more")
        else:
            passed += 1
            print(f"ok       {check.__doc__}", flush=True)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
