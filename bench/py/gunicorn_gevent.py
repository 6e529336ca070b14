# SPDX-License-Identifier: MIT
"""What gunicorn's gevent worker needs so that psycopg2 waits for sockets in gevent's way."""
import os


def post_fork(server, worker):
    if os.environ.get("BENCH_PG"):
        from psycogreen.gevent import patch_psycopg
        patch_psycopg()
