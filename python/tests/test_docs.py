# SPDX-License-Identifier: MIT
"""The Python program in docs/actors.md runs, and prints what it says."""

import re
from pathlib import Path

import pytest

import helpers

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "actors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SAID = re.compile(r"^\s*print\(.*\)\s+# (.*)$", re.MULTILINE)


@pytest.mark.outside
def test_the_program_in_the_document_prints_what_it_says():
    program = "\n".join(BLOCKS)
    done = helpers.python("-c", program)
    assert done.returncode == 0, done.stderr
    assert len(BLOCKS) >= 10 and program.count("print(") == len(SAID.findall(program))
    assert done.stdout.splitlines() == SAID.findall(program)
