# SPDX-License-Identifier: MIT
"""Draws the results in a folder as one page: OUT/report.html, self-contained, charts as inline SVG.

Each case is a panel of bars, less is better; a bar shows the median, the thin line over it min to max, the red
mark what fibril has to stay under. Growth is a line chart, both axes logarithmic.
"""
import datetime
import html
import json
import math
import os
import platform

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1c2430; background: #fff; margin: 2rem auto;
       max-width: 60rem; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem }
p { margin: .3rem 0 .6rem; color: #56606e }
h3 { font-size: .95rem; margin: .9rem 0 .1rem } svg { display: block; width: 100%; height: auto }
svg text { font: 13px system-ui, sans-serif; fill: #1c2430 }
svg .dim { fill: #56606e } svg .bad { fill: #b3261e } svg .good { fill: #1a7f37 }
nav a { margin-right: .8rem; color: #1d5fbf }
"""
LEGEND = ("Costs: shorter is better. Bars are medians, thin lines min to max, red marks the most that fibril may "
          "cost. Compared programs alternated within one run.")
OWN, PEER, RAW = "#1d5fbf", "#b4bcc8", "#7d8794"
LINES = ["#1d5fbf", "#0f9d8f", "#c2571a", "#8a56c2", "#a08a10", "#7d8794"]
WIDTH, LABEL, BARS = 900, 130, 380


def esc(s):
    return html.escape(str(s))


def number(v, metric=""):
    text = "%.0f" % v if v >= 100 else "%.1f" % v if v >= 10 else "%.2f" % v
    return "%s %s" % (f"{v:,.0f}" if v >= 10000 else text, metric)


def colour(who):
    return OWN if who.startswith("fibril") else RAW if who.startswith("raw-") or who == "boost.context" else PEER


def limits_of(bench, case, values):
    """{who: the tightest limit that its targets set in this case}."""
    out = {}
    for t in bench.targets:
        base = values.get(t.of) if t.of else 1
        if t.case == case and base is not None and t.who in values:
            out[t.who] = min(out.get(t.who, math.inf), t.limit * base)
    return out


def line(x1, x2, y1, y2, stroke, width=1):
    return '<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f" stroke="%s" stroke-width="%s"/>' % (
        x1, x2, y1, y2, stroke, width)


def label(x, y, text, anchor="start", more=""):
    return '<text x="%.1f" y="%.1f" text-anchor="%s" %s>%s</text>' % (x, y, anchor, more, esc(text))


def bars(bench, case, rows, said):
    values = {r["who"]: r["value"] for r in rows}
    limits = limits_of(bench, case, values)
    top = max([r["max"] for r in rows] + list(limits.values())) or 1
    x = lambda v: LABEL + v / top * BARS
    out, y = [], 4
    for r in rows:
        who, end = r["who"], x(r["max"])
        out.append(label(LABEL - 8, y + 14, who, "end"))
        out.append('<rect x="%d" y="%d" width="%.1f" height="20" fill="%s"/>'
                   % (LABEL, y, max(1, x(r["value"]) - LABEL), colour(who)))
        out.append(line(x(r["min"]), x(r["max"]), y + 10, y + 10, "#1c2430", 1.5))
        if who in limits:
            out.append(line(x(limits[who]), x(limits[who]), y - 2, y + 22, "#b3261e", 3))
            end = max(end, x(limits[who]))
        out.append(label(end + 8, y + 14, number(r["value"], r["metric"])))
        verdict = [met for _, met in said.get((case, who), [])]
        if verdict:
            tone = "bad" if False in verdict else "good" if all(verdict) else "dim"
            texts = [t for t, _ in said[case, who]]
            size, first = (13, 14) if len(texts) == 1 else (10.5, 8)
            out += [label(WIDTH - 2, y + first + 12 * i, t, "end", 'class="%s" style="font-size:%spx"' % (tone, size))
                    for i, t in enumerate(texts)]
        y += 26
    return '<h3>%s</h3><svg viewBox="0 0 %d %d" role="img">%s</svg>' % (esc(case), WIDTH, y + 2, "".join(out))


def lines(rows):
    """Cost over the number of threads, one line per program."""
    left, right, top, height = 60, 150, 12, 320
    points = [(int(r["case"]), r["value"]) for r in rows]
    x0, x1 = math.log10(min(p[0] for p in points)), math.log10(max(p[0] for p in points))
    low, high = (f(p[1] for p in points) for f in (min, max))
    ticks = [m * 10 ** e for e in range(-1, 7) for m in (1, 2, 5)]
    ticks = ticks[max(i for i, v in enumerate(ticks) if v <= low):]
    ticks = ticks[:next(i for i, v in enumerate(ticks) if v >= high) + 1]
    y0, y1 = math.log10(ticks[0]), math.log10(ticks[-1])
    px = lambda n: left + (math.log10(n) - x0) / ((x1 - x0) or 1) * (WIDTH - left - right)
    py = lambda v: top + height - (math.log10(v) - y0) / ((y1 - y0) or 1) * height
    out = []
    for v in ticks:
        out.append(line(left, WIDTH - right, py(v), py(v), "#e3e7ec"))
        out.append(label(left - 6, py(v) + 4, "%g ns" % v, "end", 'class="dim"'))
    for n in sorted({p[0] for p in points}):
        out.append(label(px(n), top + height + 20, f"{n:,}", "middle", 'class="dim"'))
    ends = []
    for i, who in enumerate(dict.fromkeys(r["who"] for r in rows)):
        mine = sorted((int(r["case"]), r["value"]) for r in rows if r["who"] == who)
        tone = LINES[i % len(LINES)]
        out.append('<polyline fill="none" stroke="%s" stroke-width="%s" points="%s"/>' % (
            tone, 3 if who.startswith("fibril") else 1.8,
            " ".join("%.1f,%.1f" % (px(n), py(v)) for n, v in mine)))
        out += ['<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>' % (px(n), py(v), tone) for n, v in mine]
        ends.append([py(mine[-1][1]), px(mine[-1][0]), who, tone])
    ends.sort()
    for a, b in zip(ends, ends[1:]):
        b[0] = max(b[0], a[0] + 15)  # labels do not overlap
    out += [label(x + 9, y + 4, who, "start", 'style="fill:%s"' % tone) for y, x, who, tone in ends]
    return '<svg viewBox="0 0 %d %d" role="img">%s</svg>' % (WIDTH, top + height + 30, "".join(out))


def machine():
    model = platform.machine()
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return "%s, %d processors, Linux %s" % (model, os.cpu_count(), platform.release())


def section(bench, rows, said):
    parts = ['<h2 id="%s">%s</h2><p>%s</p>' % (bench.name, bench.name, esc(bench.title))]
    if bench.chart == "lines":
        parts.append(lines(rows))
    else:
        for case in dict.fromkeys(r["case"] for r in rows):
            parts.append(bars(bench, case, [r for r in rows if r["case"] == case], said))
    return "".join(parts)


def write(out_dir, benches, verdicts):
    """Writes the page from all OUT/NAME.json that are there; returns its path."""
    found = []
    for bench in benches:
        path = os.path.join(out_dir, bench.name + ".json")
        if os.path.exists(path):
            with open(path) as f:
                rows = json.load(f)
            found.append((bench, section(bench, rows, verdicts(bench, rows))))
    path = os.path.join(out_dir, "report.html")
    with open(path, "w") as f:
        f.write('<!doctype html><html lang="en"><meta charset="utf-8"><title>fibril: benchmarks</title>')
        f.write("<style>%s</style><h1>fibril beside its peers</h1><p>%s; %s. %s</p>"
                % (STYLE, esc(machine()), datetime.date.today().isoformat(), LEGEND))
        f.write("<nav>%s</nav>" % "".join('<a href="#%s">%s</a>' % (b.name, b.name) for b, _ in found))
        f.write("".join(text for _, text in found) + "</html>\n")
    return path
