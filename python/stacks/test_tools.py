# SPDX-License-Identifier: MIT
"""Debuggers, profilers and the ends of processes: what sees threads must see fibrils."""
import json
import os
import shutil

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
DEBUGGED = os.path.join(HERE, "programs", "debugged.py")


def squares(n):
    return sum(i * i for i in range(n))


def total(text):
    line = next(line for line in text.splitlines() if "RESULT " in line)  # a prompt may stand before it
    return json.loads(line.partition("RESULT ")[2])["total"]


def line_of(words):
    with open(DEBUGGED) as lines:
        return next(i for i, line in enumerate(lines, 1) if words in line)


def test_pdb_stops_in_the_main_thread_and_goes_on(way):
    n = way.number(20, 500)
    done = way.run(["-m", "pdb", DEBUGGED, str(n)],
                   "b %d\nc\np len(threads)\nwhere\nc\nq\n" % line_of("most = os_threads()"))
    assert "(Pdb) %d" % n in done.stdout and "main()" in done.stdout, done.stdout + done.stderr
    assert total(done.stdout) == squares(n)


def test_pdb_stops_in_a_thread(way):
    script = os.path.join(way.folder, "stops.py")
    with open(script, "w") as out:
        out.write("import threading\ndef inner(word):\n    breakpoint()\n    return word\n"
                  "t = [threading.Thread(target=inner, args=('word%d' % i,)) for i in range(3)]\n"
                  "for x in t:\n    x.start()\n    x.join()\nprint('ended')\n")
    done = way.run([script], "p word\nc\n" * 3)
    assert done.returncode == 0 and "ended" in done.stdout, done.stdout + done.stderr
    assert all("'word%d'" % i in done.stdout for i in range(3)), done.stdout


def test_cprofile_counts_calls(way):
    n = way.number(20, 500)
    done = way.run(["-m", "cProfile", "-s", "name", DEBUGGED, str(n)])
    assert total(done.stdout) == squares(n), done.stderr
    assert "debugged.py:%d(main)" % line_of("def main") in done.stdout
    assert "%d " % n in next(line for line in done.stdout.splitlines() if line.endswith("(start)"))


def test_coverage_sees_lines_that_threads_ran(way):
    pytest.importorskip("coverage")
    n, data = way.number(20, 500), os.path.join(way.folder, "data")
    done = way.run(["-m", "coverage", "run", "--data-file", data, DEBUGGED, str(n)])
    assert total(done.stdout) == squares(n), done.stderr
    out = os.path.join(way.folder, "coverage.json")
    way.run(["-m", "coverage", "json", "--data-file", data, "-o", out])
    with open(out) as f:
        files = json.load(f)["files"]
    found = next(v for k, v in files.items() if k.endswith("debugged.py"))
    assert line_of("value = i * i") in found["executed_lines"] and not found["missing_lines"], found


def test_a_process_can_ask_about_its_threads(way):
    n = way.number(20, 500)
    r = way.program("introspect", n)
    assert (r["in_park"], r["listed"], r["traced"], r["profiled"]) == (n, n, n, n), r
    assert r["dumped"] == min(n, 99) or r["dumped"] == min(n, 100), r  # faulthandler stops at a hundred threads
    assert r["later"] and r["size"] >= 10000 * n and r["frames_left"] == 1, r


@pytest.mark.parametrize("how", ["daemons", "interrupted", "alarmed", "forked", "pools", "raised"])
def test_ending(way, how):
    n = way.number(20, 1000)
    done = way.run([os.path.join(HERE, "programs", "endings.py"), str(n), how], limit=100)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and len(lines) == 1, "%d\n%s\n%s" % (done.returncode, done.stdout, done.stderr[-4000:])
    assert json.loads(lines[0][len("RESULT "):])["errors"] == 0, lines


def test_many_clean_shutdowns(way):
    """A short life, again and again, with threads parked in every way that there is."""
    script = os.path.join(way.folder, "short.py")
    with open(script, "w") as out:
        out.write("import threading, time, socket, select, queue, sys\n"
                  "a, b = socket.socketpair()\nlock = threading.Lock(); lock.acquire()\n"
                  "ways = [lambda: time.sleep(99), lambda: a.recv(1), lock.acquire, queue.Queue().get,\n"
                  "        lambda: select.select([b], [], []), threading.Condition().acquire,\n"
                  "        lambda: sys.exit(3), lambda: threading.Event().wait(99)]\n"
                  "[threading.Thread(target=w, daemon=True).start() for w in ways * 5]\n"
                  "time.sleep(float(sys.argv[1]))\nprint('end')\n")
    for i in range(way.number(5, 40)):
        done = way.run([script, "0.0%d" % (i % 3)], limit=30)
        assert (done.returncode, done.stdout) == (0, "end\n"), (i, done.returncode, done.stderr[-3000:])


def test_py_spy_sees_fibrils(way):
    if not shutil.which("py-spy"):
        pytest.skip("py-spy is not installed")
    done = way.run([DEBUGGED, "50"], prefix=["py-spy", "record", "-o", os.path.join(way.folder, "spy"), "-f", "raw",
                                             "--"])
    assert total(done.stdout) == squares(50), done.stderr
