// Visits a page with our own tracker, pinned by its digest, while the gateway is killed, started again, and out of reach.
// `node outage.mjs GATEWAY WRITE_KEY`. Says `down` and `up` when it wants the gateway so, and waits for a line; at last says
// how many events it tracked.

import { createInterface } from "node:readline";
import { eventually, launch, site, sleep } from "./browser.mjs";

const [gateway, key] = process.argv.slice(2);
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const want = async (state) => {
  console.log(state);
  await lines.next();
};

const element = await (await fetch(`${gateway}/t.js.integrity`)).text();
const pinned = element.replace('"//', '"http://').replace("WRITE_KEY", key);
if (!/integrity="sha384-\S+" crossorigin/.test(pinned)) throw new Error(`not pinned: ${pinned}`);
const pages = await site({
  "/": `<!doctype html><title>Shop</title>${pinned}`,
  "/elsewhere": "<!doctype html><title>Elsewhere</title>",
});
const browser = await launch();
const context = await browser.newContext();
const page = await context.newPage();
const visit = async () => {
  await page.goto(`${pages.url}/`);
  await page.waitForFunction("window.trackway?.version");
};
let tracked = 0;
const track = async (count) => {
  for (; count; count--) await page.evaluate((n) => trackway("tracked", { n }), tracked++);
};
const waiting = () => page.evaluate(() => Object.keys(localStorage).filter((name) => name.includes(".event.")).length);
const settled = () => eventually("nothing to wait", async () => (await waiting()) == 0, 60_000);

await visit();
await track(3);
await settled();
// Killed while the page is open; the page is left, and its browser has the script in its cache.
await want("down");
await track(3);
// Once the tracker knows, it keeps what it has. What it gives to a beacon in the very moment of the death is lost.
await sleep(1000);
await page.goto(`${pages.url}/elsewhere`);
await page.goto(`${pages.url}/`);
await page.waitForFunction("window.trackway?.version");
await track(3);
if ((await waiting()) < 7) throw new Error(`${await waiting()} events wait`);
await want("up");
// It comes back by itself.
await settled();
await context.setOffline(true);
await track(3);
await context.setOffline(false);
await settled();
// Left at once.
await track(3);
await visit();
await settled();
await browser.close();
await pages.close();
console.log(tracked);
process.exit();
