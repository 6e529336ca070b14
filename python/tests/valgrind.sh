#!/bin/sh
# SPDX-License-Identifier: MIT
# Python under valgrind, as the interpreter of tests: ./dev test python-valgrind. Any error fails the
# test; leaks are counted by the tests themselves. CPython's own allocators would hide its objects.
PYTHONMALLOC=malloc exec valgrind --quiet --error-exitcode=99 --num-callers=30 \
    --suppressions=/usr/lib/valgrind/python3.supp /usr/bin/python3 "$@"
