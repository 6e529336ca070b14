# SPDX-License-Identifier: MIT
"""One mysqlclient connection a thread: a sleep in the server, a row of its own, and a rolled-back transaction."""
import os

import MySQLdb

from common import count, crowd

args = {"unix_socket": os.environ["STACK_MYSQL"], "user": os.environ["STACK_MYSQL_USER"]}
db = MySQLdb.connect(**args)
cursor = db.cursor()
cursor.execute("CREATE DATABASE IF NOT EXISTS stacks")
cursor.execute("DROP TABLE IF EXISTS stacks.t")
cursor.execute("CREATE TABLE stacks.t (i INT PRIMARY KEY, s VARCHAR(20)) ENGINE=InnoDB")
db.commit()


def query(i):
    mine = MySQLdb.connect(db="stacks", **args)
    try:
        cursor = mine.cursor()
        cursor.execute("SELECT SLEEP(0.5)")
        cursor.execute("INSERT INTO t VALUES (%s, %s)", (i, "row %d" % i))
        mine.commit()
        cursor.execute("DELETE FROM t WHERE i = %s", (i,))
        mine.rollback()
        cursor.execute("SELECT s FROM t WHERE i = %s", (i,))
        return cursor.fetchone()[0] == "row %d" % i
    finally:
        mine.close()


c = crowd(count(), query)
cursor.execute("SELECT COUNT(*) FROM stacks.t")
rows = cursor.fetchone()[0]
db.close()
c.report(right=sum(map(bool, c.results)), rows=rows)
