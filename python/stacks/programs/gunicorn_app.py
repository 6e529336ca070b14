# SPDX-License-Identifier: MIT
"""The application that gunicorn serves: each request sleeps for as long as its query says."""
import time


def application(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"] or 0))
    body = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
