# SPDX-License-Identifier: MIT
"""``fibril serve module:app``: WSGI (PEP 3333) on fibril's HTTP server.

    python3 -m fibril serve shop.wsgi:application --bind 0.0.0.0:8000 --workers 4

The parts: _serve_options (command line), _serve_master (the main process), _serve_worker (one that serves), and the
extension's WSGIServer.
"""

import os
import shutil
import sys

from . import _serve_master, _serve_options


def _serve_folder(argv):
    """Files are the C program's."""
    program = shutil.which("fibril")
    if not program:
        _serve_options.die("the command fibril, which serves folders, is not on the PATH")
    os.execv(program, [program, "serve", *argv])


def main(argv=None):
    """Runs the command with these arguments (sys.argv's by default); returns its exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if any(os.path.isdir(each) for each in argv[:1]):
        _serve_folder(argv)
    given = _serve_options.parser().parse_args(argv)
    try:
        options = _serve_options.resolve(given)
    except _serve_options.Wrong as error:
        _serve_options.die(error)
    if options.chdir:
        os.chdir(options.chdir)
    return _serve_master.Master(options, given).run()


if __name__ == "__main__":
    sys.exit(main())
