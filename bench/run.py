#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the benchmarks: fibril beside its peers, alternating within one run, each pinned to one core.

    bench/run.py [NAME...] [--runs N] [--quick] [--build DIR] [--out DIR] [--only WHO]

Prints a table per bench (median, min and max, ratio to the reference, target met or missed), and writes
OUT/NAME.json and OUT/report.html. Other work on the machine moves absolute figures: compare within a run only.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
from benches import Context, all_benches  # noqa: E402
from programs import Builder, Missing, raise_file_limit  # noqa: E402
from python import python_benches  # noqa: E402
import report  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def progress(text):
    if sys.stderr.isatty():
        print("\r\033[K" + text, end="", file=sys.stderr, flush=True)


def stolen():
    """(processor ticks that a hypervisor gave to others, ticks that were wanted) since the machine started."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = (int(w) for w in f.readline().split()[1:9])
    return steal, user + nice + system + irq + softirq + steal


def one_run(who, program, ctx, values, troubles):
    """Makes one measurement of a program; what goes wrong is kept to be said."""
    try:
        for r in program(ctx):
            values.setdefault((r["case"], who, r["metric"]), []).append(r["value"])
    except Missing as e:
        troubles[who] = ["skipped: %s" % e]
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as e:
        troubles.setdefault(who, []).append("FAILED: %s" % e)


def measure(bench, ctx, runs):
    """Returns the rows of a bench and {who: what went wrong}. The order turns round each run; a program that
    failed twice, or is missing, is not tried again."""
    values, troubles = {}, {}
    before = stolen()
    for i in range(min(runs, bench.most_runs)):
        order = list(bench.programs.items())
        for who, program in order if i % 2 == 0 else reversed(order):
            said = troubles.get(who, [])
            if len(said) < 2 and not any(text.startswith("skipped") for text in said):
                progress("%s: run %d of %d, %s" % (bench.name, i + 1, runs, who))
                one_run(who, program, ctx, values, troubles)
    progress("")
    share = [b - a for a, b in zip(before, stolen())]
    if share[1] and share[0] / share[1] > 0.03:
        troubles["(the machine)"] = ["not quiet: %.0f %% of its processor time went to other guests of its host"
                                     % (100 * share[0] / share[1])]
    rows = [{"bench": bench.name, "case": case, "who": who, "metric": metric,
             "value": round(statistics.median(v), 3), "min": min(v), "max": max(v), "runs": len(v)}
            for (case, who, metric), v in values.items()]
    whos = list(bench.programs)
    cases = list(dict.fromkeys(r["case"] for r in rows))
    rows.sort(key=lambda r: (cases.index(r["case"]), whos.index(r["who"])))
    return rows, troubles


def verdicts(bench, rows):
    """Returns {(case, who): [(text, met or None)]}; None means that the peer is missing."""
    value = {(r["case"], r["who"]): r["value"] for r in rows}
    out = {}
    for t in bench.targets:
        mine, base = value.get((t.case, t.who)), value.get((t.case, t.of)) if t.of else 1
        if mine is None:
            continue
        if base is None:
            out.setdefault((t.case, t.who), []).append((t.text() + ": not compared", None))
            continue
        limit = t.limit * base
        if mine <= limit:
            text = "met"
        elif limit:
            text = "MISSED by %.0f %%" % ((mine / limit - 1) * 100)
        else:
            text = "MISSED by %g" % mine
        out.setdefault((t.case, t.who), []).append(("%s: %s" % (t.text(), text), mine <= limit))
    return out


def number(v):
    return "%.0f" % v if v >= 1000 else "%.1f" % v if v >= 100 else "%.2f" % v


def print_table(bench, rows, troubles):
    value = {(r["case"], r["who"]): r["value"] for r in rows}
    said = verdicts(bench, rows)
    print("\n%s: %s" % (bench.name, bench.title))
    width = max([26] + [len(r["case"]) for r in rows])
    print("  %-*s %-14s %10s %-5s %21s  %-15s target"
          % (width, "case", "who", "median", "", "min .. max", "/ " + bench.ref))
    for r in rows:
        base = value.get((r["case"], bench.ref))
        ratio = "%.2f" % (r["value"] / base) if base else "-"
        text = "; ".join(t for t, _ in said.get((r["case"], r["who"]), []))
        print(("  %-*s %-14s %10s %-5s %21s  %-15s %s" % (
            width, r["case"], r["who"], number(r["value"]), r["metric"],
            number(r["min"]) + " .. " + number(r["max"]), ratio, text)).rstrip())
    for who, texts in troubles.items():
        for text in texts:
            print("  %s: %s" % (who, " ".join(text.split())))


def main():
    benches = all_benches() + python_benches()
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME",
                   help="python, for all that begin with py-, or of: " + ", ".join(b.name for b in benches))
    p.add_argument("--runs", type=int, help="runs of each program (5; 2 with --quick)")
    p.add_argument("--quick", action="store_true", help="short runs: to see that it works, not to compare")
    p.add_argument("--build", default=os.path.join(ROOT, "build", "release-bench"), metavar="DIR",
                   help="Meson build with -Dbench=true")
    p.add_argument("--out", default=os.path.join(ROOT, "build", "bench"), metavar="DIR", help="where results go")
    p.add_argument("--only", metavar="WHO", action="append", help="only programs whose name starts with WHO")
    args = p.parse_args()
    if "python" in args.names:
        args.names = [n for n in args.names if n != "python"] + [b.name for b in benches if b.name.startswith("py-")]
    unknown = set(args.names) - {b.name for b in benches}
    if unknown:
        p.error("no bench called %s; there are: %s" % (", ".join(sorted(unknown)), ", ".join(b.name for b in benches)))
    runs = args.runs or (2 if args.quick else 5)
    raise_file_limit()
    os.makedirs(args.out, exist_ok=True)
    scratch = tempfile.mkdtemp(prefix="fibril-bench-")
    failed = missed = 0
    try:
        builder = Builder(os.path.abspath(args.build), os.path.join(os.path.abspath(args.out), "peers"))
        ctx = Context(builder, scratch, args.quick)
        for bench in benches:
            if args.names and bench.name not in args.names:
                continue
            if args.only:
                bench.programs = {w: f for w, f in bench.programs.items() if w.startswith(tuple(args.only))}
            rows, troubles = measure(bench, ctx, runs)
            print_table(bench, rows, troubles)
            sys.stdout.flush()
            failed += sum(text.startswith("FAILED") for texts in troubles.values() for text in texts)
            missed += sum(met is False for v in verdicts(bench, rows).values() for _, met in v)
            if rows:
                with open(os.path.join(args.out, bench.name + ".json"), "w") as f:
                    f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")
        path = report.write(args.out, benches, verdicts)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("\n%d targets missed, %d runs failed. Report: %s" % (missed, failed, path))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
