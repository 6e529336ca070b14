# SPDX-License-Identifier: MIT
"""The smallest application, and one that waits. Nothing here knows of fibril.

    fibril serve --chdir examples/wsgi hello:app
"""

import time


def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        time.sleep(1)  # holds up this request and no other
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]
