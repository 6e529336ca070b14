// SPDX-License-Identifier: MIT
// The page of a program that is observed, in Chromium: its tables, their order and pages, the tree, the charts; light and
// dark, wide and narrow.
//
//     npm install playwright-core          (not of Debian's, so no part of ./dev test)
//     node tests/observe/browser.mjs http://127.0.0.1:7000/ [FOLDER FOR PICTURES]
//
// The program must have more than a page of actors (50) and a supervisor. Needs Debian's chromium. Exit status 1 at the
// first thing that is not as it should be.
import { createRequire } from "node:module";

const { chromium } = createRequire(process.cwd() + "/")("playwright-core");
const [url, folder] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1200, height: 760 } });
page.on("pageerror", (error) => { throw error; });

const picture = async (name) => { if (folder) await page.screenshot({ path: `${folder}/${name}.png` }); };
const rows = () => page.locator("#table tbody tr");
const where = () => page.locator("#where").innerText();
const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);

function check(what, good) {
  if (!good) throw new Error(`not so: ${what}`);
  console.log(`ok: ${what}`);
}

async function until(what, question) {
  for (let i = 0; i < 100; i++) {
    if (await question()) return console.log(`ok: ${what}`);
    await page.waitForTimeout(100);
  }
  throw new Error(`never so: ${what}`);
}

await page.goto(url);
await until("a page of actors is shown", async () => await rows().count() === 50);
await picture("actors-light");
const first = await where();
await page.click("#next");
await until("the next page is another", async () => await where() !== first && await rows().count() > 0);
await page.click("#prev");
await until("and back", async () => await where() === first);
await page.locator("#table th button", { hasText: /cpu/i }).click();
await until("a click on a column sorts by it", async () =>
  /cpu/i.test(await page.locator("#table th[aria-sort]").innerText()));
await page.waitForTimeout(3500);
check("the chart of the load has points",
  (await page.locator("#load path").first().getAttribute("d")).split("L").length > 2);
await page.keyboard.press("3");
await until("fibrils say what they wait for", async () => /waits/.test(await page.locator("#table tbody").innerText()));
await picture("fibrils-light");
await page.keyboard.press("2");
await until("the tree has its supervisors", async () => await page.locator("#tree li").count() > 0);
await page.locator("#tree button").first().click();
await until("and opens to their children", async () => await page.locator("#tree li li").count() > 0);
await picture("tree-light");
const light = await background();
await page.emulateMedia({ colorScheme: "dark" });
check("dark is dark", await background() !== light);
await picture("tree-dark");
await page.keyboard.press("1");
await until("actors again", async () => await rows().count() === 50);
await picture("actors-dark");
await page.setViewportSize({ width: 420, height: 760 });
await page.waitForTimeout(1200);
check("a narrow window scrolls the table and not the page",
  await page.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth));
await picture("actors-narrow");
await page.click("#pause");
await page.waitForTimeout(300);
check("it can be held", /pause|go on|resume|held/i.test(await page.locator("nav").innerText() + await page.locator("#state").innerText()));
await browser.close();
