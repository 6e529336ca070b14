# SPDX-License-Identifier: MIT
"""Children by the hundred, each fed, read and waited for by a thread of its own; exit codes, time-outs, signals."""
import os
import subprocess
import sys

from common import count, crowd


def child(i):
    if i % 10 == 3:
        try:
            subprocess.run(["sleep", "30"], timeout=0.3)
            return False
        except subprocess.TimeoutExpired:
            return True
    if i % 10 == 4:
        p = subprocess.Popen(["sleep", "30"])
        p.terminate()
        return p.wait() == -15
    if i % 10 == 5:
        return subprocess.getoutput("sleep 0.1; echo %d" % i) == str(i)
    p = subprocess.Popen(["sh", "-c", "sleep 0.1; cat; echo error >&2; exit %d" % (i % 7)], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = p.communicate("x" * 100000 + str(i))
    return out.endswith("x%d" % i) and len(out) > 100000 and err == "error\n" and p.returncode == i % 7


c = crowd(count(), child)
zombies = subprocess.run(["ps", "-o", "stat=", "--ppid", str(os.getpid())], stdout=subprocess.PIPE,
                         text=True).stdout.count("Z")
sys.stdout.flush()
c.report(right=sum(map(bool, c.results)), zombies=zombies)
