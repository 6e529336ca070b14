// SPDX-License-Identifier: MIT
// The page of the chat: one event stream for the room that is looked at, and the list of rooms once a second.
"use strict";

const at = (id) => document.getElementById(id);
const path = (room) => "/rooms/" + encodeURIComponent(room);
let room, stream, heard;

function addLine(who, text, kind) {
  const li = document.createElement("li");
  const name = document.createElement("b");
  name.textContent = who;
  li.className = kind;
  li.append(name, text);
  const bottom = at("lines").scrollHeight - at("lines").scrollTop - at("lines").clientHeight < 40;
  at("lines").append(li);
  if (bottom) li.scrollIntoView();
}

function setState(text, away) {
  at("state").textContent = text;
  at("state").classList.toggle("away", away);
}

function enter(name) {
  if (stream) stream.close();
  [room, heard] = [name, 0];
  at("title").textContent = name;
  at("lines").replaceChildren();
  setState("connecting", true);
  stream = new EventSource(path(name));
  stream.onopen = () => setState("connected", false);
  stream.onerror = () => setState("connection lost, trying again", true);
  stream.addEventListener("line", (event) => {
    const line = JSON.parse(event.data);
    if (line.n > heard) addLine(line.who, line.text, "line"); // a room repeats its last lines for who comes in
    heard = Math.max(heard, line.n);
  });
  stream.addEventListener("room", (event) => addLine("", "The room: " + event.data, "news"));
  showRooms();
}

async function showRooms() {
  const lines = (await (await fetch("/rooms")).text()).trim().split("\n").filter(Boolean);
  at("rooms").replaceChildren(...lines.map((line) => {
    const [name, users, , said, , kills] = line.split(" ");
    const a = document.createElement("a");
    const figures = document.createElement("small");
    a.href = "#" + name;
    a.textContent = name;
    figures.textContent = `${users} in, ${said} lines, ${kills} kills`;
    a.append(figures);
    if (name === room) a.setAttribute("aria-current", "true");
    const li = document.createElement("li");
    li.append(a);
    return li;
  }));
}

async function say(event) {
  event.preventDefault();
  const answer = await fetch(path(room) + "?who=" + encodeURIComponent(at("who").value || "somebody"),
    { method: "POST", body: at("text").value });
  if (answer.ok) at("text").value = "";
  else setState((await answer.text()).trim(), true);
}

at("say").addEventListener("submit", say);
at("kill").addEventListener("click", () => fetch(path(room), { method: "DELETE" }));
at("open").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = at("room").value;
  at("room").value = "";
});
addEventListener("hashchange", () => enter(location.hash.slice(1) || "lobby"));
setInterval(() => showRooms().catch(() => setState("the server does not answer", true)), 1000);
enter(location.hash.slice(1) || "lobby");
