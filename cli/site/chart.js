// SPDX-License-Identifier: MIT
// The latency chart: sixty seconds of [count, p50, p99] as one inline SVG. The scale is logarithmic, because
// requests of twenty microseconds and of one second are in the same picture. A second without answers is a gap in
// the lines, not a zero.
"use strict";

(() => {
  const seconds = 60, left = 52, right = 14, top = 10, bottom = 26;

  function duration(ms) {
    if (ms < 1) return Math.round(ms * 1000) + " µs";
    if (ms < 1000) return (ms < 10 ? ms.toFixed(1) : Math.round(ms)) + " ms";
    return (ms / 1000).toFixed(ms < 10000 ? 2 : 1) + " s";
  }

  const tick = (ms) => ms < 1 ? ms * 1000 + " µs" : ms < 1000 ? ms + " ms" : ms / 1000 + " s";

  // The powers of ten that hold all values, at least two of them.
  function range(points) {
    const values = points.flatMap((p) => p[0] ? [p[1], p[2]] : []).filter((v) => v > 0);
    if (!values.length) return [-2, 3];
    const low = Math.floor(Math.log10(Math.min(...values)));
    return [low, Math.max(low + 2, Math.ceil(Math.log10(Math.max(...values) * 1.05)))];
  }

  // A path through the points that have a value, broken where there is none; single points become marks.
  function line(points, index, name, x, y) {
    const runs = [];
    let run = null;
    points.forEach((p, i) => {
      if (!p[0]) { run = null; return; }
      if (!run) runs.push(run = []);
      run.push([x(i), y(p[index])]);
    });
    return runs.map((r) => r.length === 1
      ? `<circle class="mark ${name}" cx="${r[0][0]}" cy="${r[0][1]}" r="3.5"/>`
      : `<path class="line ${name}" d="M${r.map((at) => at.join(" ")).join("L")}"/>`).join("");
  }

  function bars(points, x, floor, height, step) {
    const most = Math.max(...points.map((p) => p[0]));
    return most ? points.map((p, i) => {
      const h = p[0] / most * height * 0.55;
      return p[0] ? `<rect class="rate" x="${x(i) - step * 0.4}" y="${floor - h}" width="${step * 0.8}" height="${h}"/>` : "";
    }).join("") : "";
  }

  function grid(low, high, y, width, floor, x) {
    let text = "";
    for (let power = low; power <= high; power++) {
      const at = y(10 ** power);
      text += `<line class="grid" x1="${left}" x2="${width - right}" y1="${at}" y2="${at}"/>` +
        `<text class="label" x="${left - 8}" y="${at + 4}" text-anchor="end">${tick(Number((10 ** power).toPrecision(1)))}</text>`;
    }
    for (const ago of width < 480 ? [60, 30] : [60, 45, 30, 15]) {
      text += `<text class="label" x="${x(seconds - ago)}" y="${floor + 18}" text-anchor="${ago === 60 ? "start" : "middle"}">${ago} s ago</text>`;
    }
    return text + `<text class="label" x="${width - right}" y="${floor + 18}" text-anchor="end">now</text>`;
  }

  // Draws points (oldest first) into the element.
  function draw(element, points) {
    const width = Math.max(280, element.clientWidth), height = Math.max(120, element.clientHeight);
    const floor = height - bottom, step = (width - left - right) / (seconds - 1);
    const [low, high] = range(points);
    const x = (i) => Math.round((left + i * step) * 10) / 10;
    const y = (ms) => Math.round((floor - (Math.log10(ms) - low) / (high - low) * (floor - top)) * 10) / 10;
    const last = points.filter((p) => p[0]).at(-1);
    const words = last ? `Latency of the last minute. Latest second: half of ${last[0]} requests took less than ` +
      `${duration(last[1])}, 99 of 100 less than ${duration(last[2])}.` : "Latency of the last minute: no requests.";
    element.innerHTML = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${words}">` +
      grid(low, high, y, width, floor, x) + bars(points, x, floor, floor - top, step) +
      line(points, 2, "p99", x, y) + line(points, 1, "p50", x, y) + "</svg>";
  }

  window.chart = { seconds, draw, duration };
})();
