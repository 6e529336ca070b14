# SPDX-License-Identifier: MIT
"""A crowd of queries through SQLAlchemy's pool and psycopg2: sleeping ones, transactions, and errors among them."""
import os

import sqlalchemy as sa

from common import count, crowd

engine = sa.create_engine(os.environ["STACK_PG"], pool_size=50, max_overflow=0, pool_timeout=120)
with engine.begin() as db:
    db.execute(sa.text("DROP TABLE IF EXISTS counters"))
    db.execute(sa.text("CREATE TABLE counters (slot int PRIMARY KEY, n int NOT NULL)"))
    db.execute(sa.text("INSERT INTO counters SELECT s, 0 FROM generate_series(0, 9) s"))


def query(i):
    with engine.begin() as db:
        pid, back = db.execute(sa.text("SELECT pg_backend_pid(), :i + 0 * length(pg_sleep(0.1)::text)"),
                               {"i": i}).one()
    if i % 10 == 0:
        try:
            with engine.begin() as db:
                db.execute(sa.text("UPDATE counters SET n = n + 1000 WHERE slot = 0"))
                db.execute(sa.text("SELECT 1 / 0"))
        except sa.exc.DataError:
            pass
    with engine.begin() as db:
        db.execute(sa.text("UPDATE counters SET n = n + 1 WHERE slot = :s"), {"s": i % 10})
    return back == i and pid > 0


c = crowd(count(), query)
with engine.begin() as db:
    total = db.execute(sa.text("SELECT sum(n) FROM counters")).scalar()
checked_out = engine.pool.checkedout()
engine.dispose()
c.report(right=sum(map(bool, c.results)), total=int(total), checked_out=checked_out)
