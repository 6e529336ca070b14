# SPDX-License-Identifier: MIT
"""Each test runs in a Python process of its own, in which fibril is enabled, with a time limit.

So a test that hangs or crashes fails alone, and pytest itself never runs on fibrils. A test marked `plain` gets a
process in which nothing is enabled yet; one marked `outside` runs in pytest's own process and starts what it likes
with helpers.python().
"""

import os

import pytest

import helpers

CODE = """\
import faulthandler, sys
faulthandler.enable()
{enable}
import {module} as module
module.{test}({arguments})
"""


def pytest_configure(config):
    config.addinivalue_line("markers", "plain: the test enables fibril itself")
    config.addinivalue_line("markers", "outside: the test runs in pytest's own process")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if pyfuncitem.get_closest_marker("outside"):
        return None
    module = pyfuncitem.module
    if not getattr(module, "ISOLATED", False):
        return None
    plain = pyfuncitem.get_closest_marker("plain")
    arguments = ", ".join(f"{k}={v!r}" for k, v in getattr(pyfuncitem, "callspec", None).params.items()) \
        if hasattr(pyfuncitem, "callspec") else ""
    code = CODE.format(enable="" if plain else "import fibril; fibril.enable()", module=module.__name__,
                       test=pyfuncitem.originalname, arguments=arguments)
    result = helpers.python("-c", code, cwd=os.path.dirname(__file__))
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    if result.returncode != 0:
        pytest.fail(f"exit status {result.returncode}\n{result.stdout}\n{result.stderr}", pytrace=False)
    return True
