# SPDX-License-Identifier: MIT
"""Logging from a crowd, straight into a file and through a queue: every line whole, none lost, names right."""
import logging
import logging.handlers
import os
import queue
import re
import tempfile
import threading

from common import count, crowd

n, lines = count(), 10
folder = tempfile.mkdtemp(dir=os.environ.get("TMPDIR"))
paths = [os.path.join(folder, name) for name in ("direct", "queued")]
direct, target = (logging.FileHandler(p) for p in paths)
formatter = logging.Formatter("%(threadName)s|%(thread)d|%(message)s")
for handler in (direct, target):
    handler.setFormatter(formatter)
q = queue.Queue()
listener = logging.handlers.QueueListener(q, target)
listener.start()
log = logging.getLogger("crowd")
log.setLevel(logging.INFO)
log.propagate = False
log.addHandler(direct)
log.addHandler(logging.handlers.QueueHandler(q))


def write(i):
    me = threading.current_thread().name
    for k in range(lines):
        log.info("%s line %d of %d %s", me, k, i, "-" * 100)
    return True


c = crowd(n, write)
listener.stop()
direct.close()
target.close()
good = []
for path in paths:
    with open(path) as f:
        text = f.read().splitlines()
    if path.endswith("queued"):  # the queue's handler has formatted the record before
        text = [t.split("|", 2)[2] if t.count("|") >= 2 else t for t in text]
    form = re.compile(r"(?:([^|]*)\|\d+\|)?(\S+(?: \(\w+\))?) line \d+ of \d+ -{100}$")
    good.append(len({t for t in text if form.match(t) and (not form.match(t)[1] or
                                                          form.match(t)[1] == form.match(t)[2])}))
c.report(right=sum(map(bool, c.results)), direct=good[0], queued=good[1])
