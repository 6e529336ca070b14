#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the tests of this folder by pytest for ./dev test: one line of counts, and what failed.

    run.py --path DIR [--label TEXT] [--summary FILE] [--log FILE] [pytest's own options]
"""
import argparse
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))


def main():
    # Whoever started us in the background may have had these ignored, and programs inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--path", required=True)
    p.add_argument("--python", default="/usr/bin/python3")
    p.add_argument("--label", default="")
    p.add_argument("--summary")
    p.add_argument("--log", default=os.devnull)
    options, more = p.parse_known_args()
    xml, begun = os.path.abspath(options.log) + ".xml", time.monotonic()
    with open(options.log, "wb") as log:
        # "=" keeps pytest from looking for this folder's options in the folders that these values name
        subprocess.run([options.python, "-m", "pytest", "-q", "-p", "no:cacheprovider",
                        "--fibril-path=" + os.path.abspath(options.path), "--python=" + options.python,
                        "--junit-xml=" + xml, HERE, *more],
                       stdout=log, stderr=log, check=False)
    count = {"passed": 0, "failed": 0, "skipped": 0}
    failures = []
    try:
        cases = list(ElementTree.parse(xml).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        cases = []
    for case in cases:
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        kind = "failed" if bad is not None else "skipped" if case.find("skipped") is not None else "passed"
        count[kind] += 1
        if kind == "failed":
            failures.append((case.get("name"), (bad.get("message") or "")[:300]))
    if not cases:
        count["failed"], failures = 1, [("no test ran", "see " + options.log)]
    print("%s %d passed, %d failed, %d skipped   %.0f s" % (
        options.label, count["passed"], count["failed"], count["skipped"], time.monotonic() - begun))
    for name, message in failures:
        print("    FAILED %s: %s" % (name, " ".join(message.split())))
    if options.summary:
        with open(options.summary, "a", encoding="utf-8") as out:
            out.write("stacks %d %d %d\n" % (count["passed"], count["failed"], count["skipped"]))
    return 1 if count["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
