# SPDX-License-Identifier: MIT
"""What a process can ask about its threads: frames, names, faulthandler's dump, tracemalloc, hooks."""
import faulthandler
import sys
import tempfile
import threading
import tracemalloc

from common import count, os_threads, report

n = count()
gate, there = threading.Event(), threading.Semaphore(0)
traced, profiled, kept = [], [], []


def parked_here():
    there.release()
    gate.wait()


def allocate():
    kept.append(bytearray(10000))


def worker():
    allocate()
    parked_here()


def trace(frame, event, arg):
    if event == "call" and frame.f_code.co_name == "allocate":
        traced.append(threading.get_ident())


def profile(frame, event, arg):
    if event == "call" and frame.f_code.co_name == "allocate":
        profiled.append(threading.get_ident())


tracemalloc.start()
threading.settrace(trace)
threading.setprofile(profile)
threads = [threading.Thread(target=worker, name="worker-%d" % i) for i in range(n)]
for t in threads:
    t.start()
for t in threads:
    there.acquire()
most = os_threads()
frames = sys._current_frames()


def names(frame):
    while frame:
        yield frame.f_code.co_name
        frame = frame.f_back


in_park = sum("parked_here" in names(frames[t.ident]) for t in threads if t.ident in frames)
with tempfile.TemporaryFile("w+") as out:
    faulthandler.dump_traceback(out, all_threads=True)
    out.seek(0)
    dumped = out.read().count("in parked_here")
with tempfile.TemporaryFile("w+") as out:
    faulthandler.dump_traceback_later(0.2, file=out)
    threading.Event().wait(0.6)
    faulthandler.cancel_dump_traceback_later()
    out.seek(0)
    later = "Timeout" in out.read()
size = sum(s.size for s in tracemalloc.take_snapshot().filter_traces(
    [tracemalloc.Filter(True, __file__)]).statistics("lineno") if s.size >= 10000 * n)
native = len({t.native_id for t in threads})
listed = len([t for t in threading.enumerate() if t.name.startswith("worker-")])
gate.set()
for t in threads:
    t.join()
report(errors=0, os_threads=most, in_park=in_park, dumped=dumped, later=later, size=size, listed=listed, native=native,
       traced=len(set(traced)), profiled=len(set(profiled)), frames_left=len(sys._current_frames()))
