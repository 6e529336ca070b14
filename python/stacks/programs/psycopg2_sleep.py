# SPDX-License-Identifier: MIT
"""One psycopg2 connection a thread, each asleep in the server at the same time."""
import os

import psycopg2

from common import count, crowd


def query(i):
    db = psycopg2.connect(os.environ["STACK_PG_DSN"])
    try:
        with db.cursor() as cursor:
            cursor.execute("SELECT %s, pg_sleep(1)", (i,))
            return cursor.fetchone()[0] == i
    finally:
        db.close()


c = crowd(count(), query)
c.report(right=sum(map(bool, c.results)))
