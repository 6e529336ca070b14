# SPDX-License-Identifier: MIT
"""redis-py: half of the crowd waits in BLPOP for what the other half pushes; a shared counter; pub/sub."""
import os
import threading

import redis

from common import count, crowd

n = count()
pool = redis.BlockingConnectionPool.from_url(os.environ["STACK_REDIS"], max_connections=n + 10, timeout=60)
client = redis.Redis(connection_pool=pool)
client.flushall()


def work(i):
    client.incr("counter")
    if i % 2 == 0:
        return client.blpop("list:%d" % i, timeout=60)[1] == b"%d" % i
    threading.Event().wait(0.2)
    client.rpush("list:%d" % (i - 1), i - 1)
    return client.blpop("never:%d" % i, timeout=1) is None


c = crowd(n, work)
counter = int(client.get("counter"))
pool.disconnect()
c.report(right=sum(map(bool, c.results)), counter=counter)
