# SPDX-License-Identifier: MIT
"""What the tests share."""

import contextlib
import os
import subprocess
import sys

TIME_LIMIT = 60 * float(os.environ.get("FIBRIL_TEST_TIMEOUT_MULTIPLIER", "1"))


def python(*arguments, seconds=TIME_LIMIT, **options):
    """Runs this Python with the arguments; returns what subprocess.run does. A run that is too long fails with
    status 124."""
    options.setdefault("stdin", subprocess.DEVNULL)
    try:
        return subprocess.run([sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=seconds, check=False, **options)
    except subprocess.TimeoutExpired as late:
        said = [(each or b"").decode(errors="replace") for each in (late.stdout, late.stderr)]
        return subprocess.CompletedProcess(arguments, 124, said[0], said[1] + f"\ntook longer than {seconds} s")


def skip(why):
    """Ends the test's process as skipped."""
    print(why, flush=True)
    os._exit(77)


def need_frames():
    """Skips the file that calls this where the build knows nothing of CPython's frames and depths: no greenlets, no
    tasklets, no RecursionError where a C stack is full."""
    from fibril import _fibril

    if not hasattr(_fibril, "_greenlet"):
        import pytest

        pytest.skip("this build uses CPython's public interface only", allow_module_level=True)


@contextlib.contextmanager
def raises(kind):
    """The block raises such an exception; what is yielded gets it as .value."""

    class Caught:
        value = None

    caught = Caught()
    try:
        yield caught
    except kind as error:
        caught.value = error
    else:
        raise AssertionError(f"{kind} was not raised")
