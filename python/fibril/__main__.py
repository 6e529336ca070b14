# SPDX-License-Identifier: MIT
"""``python3 -m fibril``: see _main.py."""

import sys

from fibril._main import main

sys.exit(main())
