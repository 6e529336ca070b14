// SPDX-License-Identifier: MIT
// The page of the chat in Chromium: two users in one room and one in another, the first room is killed.
//
//     npm install playwright-core          (not of Debian's, so no part of ./dev test)
//     node examples/chat/browser.mjs http://127.0.0.1:8080/ [SCREENSHOT.png]
//
// Needs Debian's chromium. Exit status 1 at the first thing that is not as it should be.
import { createRequire } from "node:module";

const { chromium } = createRequire(process.cwd() + "/")("playwright-core");
const [url, picture] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });

async function visit(room, who) {
  const page = await browser.newPage({ viewport: { width: 900, height: 500 } });
  page.on("pageerror", (error) => { throw error; });
  await page.goto(url + "#" + room);
  await page.locator("#state", { hasText: "connected" }).waitFor();
  await page.fill("#who", who);
  return page;
}

async function say(page, text) {
  await page.fill("#text", text);
  await page.click("#say button");
  await page.waitForFunction(() => document.getElementById("text").value === "");
}

const heard = (page, who, text) => page.locator("#lines li.line", { hasText: who + text }).waitFor({ timeout: 10000 });
const count = (page, kind) => page.locator("#lines li." + kind).count();

function expect(what, got, wanted) {
  if (got !== wanted) throw new Error(`${what}: ${got}, not ${wanted}`);
  console.log(`ok: ${what}`);
}

const [ann, bob, eve] = [await visit("tea", "Ann"), await visit("tea", "Bob"), await visit("coffee", "Eve")];
await say(ann, "hello <b>\"Bob\"</b>");
await heard(bob, "Ann", "hello <b>\"Bob\"</b>");
console.log("ok: Bob hears Ann, letter by letter");
await bob.click("#kill");
await ann.locator("#lines li.news").waitFor({ timeout: 10000 });
await bob.locator("#lines li.news").waitFor({ timeout: 10000 });
console.log("ok: both are told that the room was killed");
await say(bob, "still here?");
await heard(ann, "Bob", "still here?");
await say(ann, "yes");
await heard(bob, "Ann", "yes");
expect("lines in the room that was killed", await count(ann, "line"), 3);
expect("lines in the other room", await count(eve, "line"), 0);
expect("news in the other room", await count(eve, "news"), 0);
await ann.locator("#rooms li", { hasText: "tea" }).locator("small", { hasText: "1 kills" }).waitFor({ timeout: 10000 });
console.log("ok: the list of rooms says so");
if (picture) await ann.screenshot({ path: picture });
await browser.close();
