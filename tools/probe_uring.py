#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Says by its exit status whether this kernel grants io_uring with the flags that fibril's poller needs.

Containers often deny it; then the runner that forces this poller has nothing to run on.
"""

import ctypes
import os
import sys

SYS_IO_URING_SETUP = 425  # the same on every architecture that fibril knows
SINGLE_ISSUER = 1 << 12
DEFER_TASKRUN = 1 << 13


def main() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    params = (ctypes.c_uint32 * 30)()  # struct io_uring_params: flags is the third word
    params[2] = SINGLE_ISSUER | DEFER_TASKRUN
    fd = libc.syscall(SYS_IO_URING_SETUP, 4, ctypes.byref(params))
    if fd < 0:
        return 1
    os.close(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
