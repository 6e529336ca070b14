# SPDX-License-Identifier: MIT
"""``python3 -m fibril``: see _main.py."""
