#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the greenlet package's own test suite on fibril's greenlets.

    greenlet.py SOURCE [--path DIR] [--python PATH] [pytest's own options]

SOURCE is an unpacked source package of greenlet (`pip download --no-binary :all: greenlet`), DIR holds the package
fibril: build/NAME/python. The Python needs pytest, psutil and objgraph, and must not have greenlet. The two
extension modules of the suite are compiled against the header in SOURCE, as a user's would be. What fails must stand
in greenlet_exceptions.txt with a reason; what stands there and passes is reported as well. Exit status 1 if anything
fails that is not listed.
"""
import argparse
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile

from listed import read_exceptions

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

SITE = """\
import fibril.greenlet as module
module.install()
module.__path__.append({suite!r})
"""


def compile_extensions(tests, python):
    ask = "import sysconfig; print(sysconfig.get_path('include'))"
    include = subprocess.run([python, "-c", ask], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    for source, compiler in (("_test_extension.c", "gcc"), ("_test_extension_cpp.cpp", "g++")):
        subprocess.run([compiler, "-shared", "-fPIC", "-I" + include, "-o",
                        os.path.join(tests, source.partition(".")[0] + ".so"), os.path.join(tests, source)], check=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("source")
    p.add_argument("--path", default=os.path.join(ROOT, "build", "release", "python"))
    p.add_argument("--python", default=sys.executable)
    options, more = p.parse_known_args()
    exceptions = dict(read_exceptions("greenlet_exceptions.txt"))
    with tempfile.TemporaryDirectory(prefix="fibril-greenlet-") as folder:
        suite = os.path.join(folder, "suite")
        shutil.copytree(os.path.join(options.source, "src", "greenlet"), suite)
        os.remove(os.path.join(suite, "__init__.py"))  # that of the original; only its tests are wanted
        compile_extensions(os.path.join(suite, "tests"), options.python)
        with open(os.path.join(folder, "sitecustomize.py"), "w", encoding="utf-8") as site:
            site.write(SITE.format(suite=suite))
        env = dict(os.environ, PYTHONPATH=os.pathsep.join([folder, os.path.abspath(options.path)]))
        run = subprocess.run([options.python, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "--tb=short",
                              "--import-mode=importlib", *more, os.path.join(suite, "tests")],
                             env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    results = dict((name.replace("::", "."), result) for result, name in re.findall(r"^(PASSED|FAILED|ERROR) \S*?::(\S+)", run.stdout, re.M))
    if not results:
        print(run.stdout[-3000:])
        return 1
    failed = sorted(name for name, result in results.items() if result != "PASSED")
    listed = {name: reason for name in failed for pattern, reason in exceptions.items()
              if fnmatch.fnmatch(name, pattern)}
    for name in failed:
        print(f"{'listed' if name in listed else 'FAILED'} {name}" + (f": {listed[name]}" if name in listed else ""))
    for pattern in exceptions:
        if any(fnmatch.fnmatch(name, pattern) and result == "PASSED" for name, result in results.items()):
            print(f"passes {pattern}, although it is listed")
    new = [name for name in failed if name not in listed]
    print(f"{len(results) - len(failed)} passed, {len(listed)} listed, {len(new)} failed "
          f"({sysconfig.get_python_version() if options.python == sys.executable else options.python})")
    if new:
        print(run.stdout[-6000:])
    return 1 if new else 0


if __name__ == "__main__":
    sys.exit(main())
