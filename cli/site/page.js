// SPDX-License-Identifier: MIT
// Keeps the page in step with /events: "past" once (the last minute), then "pulse" four times a second. The browser
// connects again by itself when the stream breaks; what it shows meanwhile is marked as lost.
"use strict";

(() => {
  const at = (id) => document.getElementById(id);
  const number = new Intl.NumberFormat("en");
  const state = { points: [], second: 0, loadMax: 10000, most: 0 };

  function show(id, text) {
    const element = at(id);
    if (element.textContent !== text) element.textContent = text;
  }

  function link(state, text) {
    at("link").className = "link " + state;
    show("link-text", text);
  }

  function redraw() {
    const some = state.points.some((p) => p[0]);
    chart.draw(at("chart"), state.points);
    at("chart-empty").hidden = some;
    const last = state.points.filter((p) => p[0]).at(-1);
    show("p50", last ? chart.duration(last[1]) : "–");
    show("p99", last ? chart.duration(last[2]) : "–");
  }

  function onPast(past) {
    state.points = past.points;
    state.second = past.second;
    state.loadMax = past.load_max;
    const count = at("load-count");
    if (count.max !== String(past.load_max)) {
      count.max = past.load_max;
      count.value = past.load_max;
    }
    show("poller", past.poller);
    show("version", past.version);
    link("live", "live");
    redraw();
  }

  // A second that is over becomes a point; those that were missed are gaps.
  function onSecond(second, last) {
    for (; state.second < second; state.second++) {
      state.points.push(state.second + 1 === second ? last : [0, 0, 0]);
    }
    state.points = state.points.slice(-chart.seconds);
    redraw();
  }

  function bytes(each) {
    return each < 10000 ? number.format(each) + " bytes" : (each / 1024).toFixed(1) + " KiB";
  }

  function showBytes(pulse) {
    if (pulse.bytes_each <= 0) return;
    const [figure, unit] = bytes(pulse.bytes_each).split(" ");
    at("bytes").innerHTML = `${figure} <small>${unit}</small>`;
    show("bytes-note", `at ${number.format(pulse.bytes_at)} in flight, page tables included`);
  }

  function onPulse(pulse) {
    state.most = Math.max(pulse.peak, 1);
    show("in-flight", number.format(pulse.in_flight));
    show("peak", number.format(pulse.peak));
    show("per-second", number.format(pulse.per_second));
    show("answered", number.format(pulse.answered));
    show("threads", number.format(pulse.threads));
    at("meter").style.width = 100 * pulse.in_flight / state.most + "%";
    showBytes(pulse);
    if (pulse.second !== state.second) onSecond(pulse.second, pulse.last);
  }

  function listen() {
    const events = new EventSource("/events");
    events.addEventListener("past", (e) => onPast(JSON.parse(e.data)));
    events.addEventListener("pulse", (e) => onPulse(JSON.parse(e.data)));
    events.addEventListener("error", () => link("lost", "connection lost, trying again"));
  }

  function say(id, text, bad) {
    at(id).classList.toggle("bad", Boolean(bad));
    show(id, text);
  }

  async function sendLoad() {
    const count = at("load-count").valueAsNumber;
    say("load-result", `Sending ${number.format(count)} requests…`);
    const response = await fetch(`/load?requests=${count}`, { method: "POST" });
    if (!response.ok) throw new Error(await response.text());
    const done = await response.json();
    say("load-result", `${number.format(done.answered)} answered, ${number.format(done.failed)} failed, in ` +
      `${done.seconds.toFixed(2)} s; ${number.format(done.peak)} in flight at once.`, done.failed);
  }

  async function ask(path) {
    try {
      const response = await fetch(path, { cache: "no-store" });
      await response.text();
      return response.ok;
    } catch {
      return false;
    }
  }

  async function fire() {
    const count = at("fire-count").valueAsNumber, path = at("fire-what").value;
    const began = performance.now();
    let over = 0;
    const all = Array.from({ length: count }, () => ask(path).then((fine) => {
      over++;
      say("fire-result", `${number.format(over)} of ${number.format(count)} over…`);
      return fine;
    }));
    const failed = (await Promise.all(all)).filter((fine) => !fine).length;
    const seconds = (performance.now() - began) / 1000;
    say("fire-result", `${number.format(count - failed)} answered, ${number.format(failed)} failed, in ` +
      `${seconds.toFixed(2)} s.`, failed);
  }

  function onSubmit(name, action) {
    at(name + "-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      at(name + "-button").disabled = true;
      try {
        await action();
      } catch (error) {
        say(name + "-result", error.message, true);
      }
      at(name + "-button").disabled = false;
    });
  }

  state.points = Array.from({ length: chart.seconds }, () => [0, 0, 0]);
  redraw();
  new ResizeObserver(redraw).observe(at("chart"));
  onSubmit("load", sendLoad);
  onSubmit("fire", fire);
  listen();
})();
