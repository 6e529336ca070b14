# SPDX-License-Identifier: MIT
"""sqlite3: a crowd of writers on one file, each with a connection of its own and patience."""
import os
import sqlite3
import tempfile

from common import count, crowd

n = count()
path = os.path.join(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")), "db.sqlite3")
db = sqlite3.connect(path)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE t (i INTEGER PRIMARY KEY, n INTEGER)")
db.execute("CREATE TABLE total (n INTEGER)")
db.execute("INSERT INTO total VALUES (0)")
db.commit()


def write(i):
    mine = sqlite3.connect(path, timeout=120, isolation_level=None)
    mine.execute("PRAGMA synchronous=OFF")
    for k in range(3):
        mine.execute("BEGIN IMMEDIATE")
        before = mine.execute("SELECT n FROM total").fetchone()[0]
        mine.execute("INSERT INTO t VALUES (?, ?)", (3 * i + k, before))
        mine.execute("UPDATE total SET n = ?", (before + 1,))
        mine.execute("COMMIT")
    mine.close()
    return True


c = crowd(n, write)
total = db.execute("SELECT n FROM total").fetchone()[0]
rows = db.execute("SELECT COUNT(*), COUNT(DISTINCT n) FROM t").fetchone()
db.close()
c.report(right=sum(map(bool, c.results)), total=total, rows=rows[0], distinct=rows[1])
