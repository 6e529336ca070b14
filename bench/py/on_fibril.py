# SPDX-License-Identifier: MIT
"""Runs a program with fibril's greenlets in the place of the greenlet package, and nothing else of fibril.

    on_fibril.py PROGRAM [ARGUMENT...]
"""
import os
import runpy
import sys

import fibril.greenlet

fibril.greenlet.install()
del sys.argv[0]
sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
