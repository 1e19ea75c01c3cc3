// Our own tracker in a real browser: what it sends, when, and what it does when the gateway cannot take it. The gateway is a
// recorder here, because only that can refuse on demand; `trackers_live.rs` shows the tracker with the real one.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { eventually, launch, serve, site, sleep, tabs } from "./browser.mjs";
import { DIGEST, GZIP_BYTES_MAX, SMALL, digest, gzipBytes, minified } from "./minify.mjs";

const SCRIPT = readFileSync(SMALL, "utf8");
/** The stub, as the source's own comment gives it. */
const STUB = readFileSync(new URL("../../trackers/web/t.js", import.meta.url), "utf8")
  .match(/<script>([^]*?)<\/script>/)[1]
  .replace(/^ \*/gm, "");

let browser, pages, gateway, context, page, errors;
/** Requests with events, as they came: `{query, headers, at, sent_at, events, status}`. */
let requests;
/** Each test's own: a page that was closed may still send. */
let key = 0;
/** What the gateway says now: a status, headers, or `reset` for none. */
let says;

const arrived = () => requests.filter(({ status }) => status == 200).flatMap((request) => request.events);
/** As a gateway counts: by their ids, whatever arrived twice. */
const events = () => [...new Map(arrived().map((event) => [event.id, event])).values()];
const named = (name) => events().filter(({ type, event }) => (type == "track" ? event : type) == name);
/** The one event of this name, when it has come. */
const one = async (name) => {
  await eventually(name, () => named(name).length);
  // A page that is left before it hears the answer sends again on the next one.
  await eventually("the answer to be heard", async () => !(await waiting().catch(() => [])).length);
  assert.equal(named(name).length, 1, JSON.stringify(named(name)));
  return named(name)[0];
};
const html = (attributes, body = "", head = "") => `<!doctype html><title>Shop</title>${head}
  <script async src="http://127.0.0.1:${gateway.port}/t.js" data-key="${key}" ${attributes}></script>${body}`;
const visit = async (path) => {
  await page.goto(pages.url + path);
  await page.waitForFunction(() => window.trackway?.version);
};
const waiting = async () => (await stored()).filter((name) => name.includes(".event."));
const stored = () => page.evaluate(() => Object.keys(localStorage).sort());
/** Long enough for whatever would be sent at once. */
const QUIET_MS = 600;

before(async () => {
  browser = await launch();
  gateway = await serve(async (request, response) => {
    const url = new URL(request.url, "http://gateway");
    if (url.pathname == "/t.js") {
      return response.writeHead(200, { "content-type": "text/javascript" }).end(SCRIPT);
    }
    let body = "";
    request.setEncoding("utf8");
    for await (const part of request) body += part;
    const { status = 200, headers = {}, reset, afterMs = 0 } = says;
    await sleep(afterMs);
    if (url.searchParams.get("writeKey") != key) return response.end();
    const cors = {
      "access-control-allow-origin": request.headers.origin ?? "",
      "access-control-allow-credentials": "true",
      "access-control-expose-headers": "Retry-After",
    };
    const parsed = body ? JSON.parse(body) : { events: [] };
    const known = { at: Date.now(), status: reset ? 0 : status };
    requests.push({ method: request.method, url, headers: request.headers, ...known, ...parsed });
    if (reset) return request.socket.destroy();
    response.writeHead(status, { ...cors, ...headers }).end("{}");
  });
  const links = `<a id="out" href="https://other.example/x?y=1">out</a> <a id="in" href="/plain">in</a>
    <button data-trackway="Signup clicked" data-trackway-plan="pro" data-trackway-list-price="9"><b id="mark">go</b></button>
    <div style="height: 3000px"></div>`;
  pages = await site({
    "/": () => html("", links),
    "/plain": () => html(""),
    "/nothing": "<!doctype html><title>Nothing</title>",
    "/consent": () => html('data-consent="required"', links),
    "/memory": () => html('data-storage="none"'),
    "/manual": () => html('data-pages="manual"'),
    "/hash": () => html("data-hash"),
    "/ignore": () => html('data-gpc="ignore"'),
    "/twice": () => html("", html("")),
    "/stub": () =>
      html("", "", `<script>${STUB}</script><script>trackway("early", {n: 1}); trackway.identify("ann", {plan: "pro"})</script>`),
    "/broken": () => html("", "", "<script>Object.defineProperty(window, 'localStorage', {get() { throw 1 }})</script>"),
  });
});
after(async () => {
  await browser?.close();
  await gateway?.close();
  await pages?.close();
});
beforeEach(async () => {
  key++;
  requests = [];
  says = {};
  errors = [];
  context = await browser.newContext();
  // No call reaches other hosts.
  await context.route("https://other.example/**", (route) => route.fulfill({ body: "other" }));
  page = await context.newPage();
  page.on("pageerror", (error) => errors.push(error));
});
afterEach(async () => {
  await context.close();
  assert.deepEqual(errors, [], "nothing reaches the page");
});

test("what is served is made of the source, and small", async () => {
  assert.equal(await minified(), SCRIPT, "run `cargo xtask tracker`");
  assert.equal(readFileSync(DIGEST, "utf8"), digest(SCRIPT));
  assert.ok(gzipBytes(SCRIPT) <= GZIP_BYTES_MAX, `${gzipBytes(SCRIPT)} bytes`);
});

test("a page view says where, who and when, in a request without a preflight", async () => {
  await visit("/?utm_source=news#top");
  const view = await one("page");
  const [request] = requests;
  assert.equal(request.method, "POST");
  assert.equal(request.url.pathname + request.url.search, `/v1/events?writeKey=${key}`);
  assert.match(request.headers["content-type"], /^text\/plain/);
  assert.ok(Math.abs(Date.parse(request.sent_at) - request.at) < 2000);
  assert.ok(Date.parse(view.time) <= Date.parse(request.sent_at));
  const { url, title, referrer, locale, screen, library, consent } = view.context;
  assert.deepEqual({ url, title, referrer }, { url: `${pages.url}/?utm_source=news`, title: "Shop", referrer: "" });
  assert.deepEqual({ locale, screen }, { locale: "en-US", screen: { width: 1280, height: 720 } });
  assert.deepEqual({ library, consent }, { library: { name: "trackway.js", version: "1.0.0" }, consent: undefined });
  assert.ok(view.id.length >= 16 && view.visitor_id.length >= 16 && view.id != view.visitor_id);
  await eventually("what was answered to wait no more", async () => !(await waiting()).length);
  assert.deepEqual(await stored(), [`trackway.${key}.visitor`]);
});

test("a visitor stays the same, and its next page names the one before", async () => {
  await visit("/");
  const first = await one("page");
  requests = [];
  await page.click("#in");
  const second = await one("page");
  assert.equal(second.visitor_id, first.visitor_id);
  assert.equal(second.context.referrer, `${pages.url}/`);
});

test("events keep their order and properties, also those of one moment", async () => {
  await visit("/");
  await page.evaluate(() => {
    for (let n = 0; n < 30; n++) trackway("step", { n, nested: { list: [1, "ü"] } });
    trackway("bare");
  });
  await one("bare");
  const steps = named("step");
  assert.deepEqual(steps.map(({ properties }) => properties.n), [...Array(30).keys()]);
  assert.deepEqual(steps[3].properties, { n: 3, nested: { list: [1, "ü"] } });
  assert.equal(new Set(steps.map(({ id }) => id)).size, 30);
  const times = steps.map(({ time }) => Date.parse(time));
  assert.deepEqual(times, [...new Set(times)].sort((a, b) => a - b), "no two at one time");
});

test("calls from before the script are kept by the stub", async () => {
  await visit("/stub");
  const early = await one("early");
  assert.deepEqual(early.properties, { n: 1 });
  const identify = await one("identify");
  assert.deepEqual([identify.user_id, identify.traits], ["ann", { plan: "pro" }]);
  assert.deepEqual(events().map(({ type }) => type), ["page", "track", "identify"]);
});

test("who was identified stays so, on the next page too, until reset", async () => {
  await visit("/");
  await page.evaluate(() => trackway.identify(42));
  await one("identify");
  await visit("/plain");
  await page.evaluate(() => trackway("known"));
  const known = await one("known");
  assert.equal(known.user_id, "42");
  await page.evaluate(() => (trackway.reset(), trackway("unknown")));
  const unknown = await one("unknown");
  assert.equal(unknown.user_id, undefined);
  assert.notEqual(unknown.visitor_id, known.visitor_id);
});

test("single-page navigation is a page view each, none twice", async () => {
  await visit("/");
  await one("page");
  await page.evaluate(async () => {
    const turn = () => new Promise((resolve) => setTimeout(resolve, 50));
    history.pushState({}, "", "/a");
    document.title = "A";
    await turn();
    history.pushState({}, "", "/a");
    history.replaceState({ again: true }, "", "/a#part");
    await turn();
    // A router that redirects.
    history.pushState({}, "", "/nowhere");
    history.replaceState({}, "", "/b");
    document.title = "B";
    await turn();
    location.hash = "#anchor";
    await turn();
    history.go(-2);
    await turn();
  });
  await eventually("four views", () => named("page").length >= 4);
  await sleep(QUIET_MS);
  const seen = named("page").map(({ context }) => [context.url, context.referrer].map((url) => url.slice(pages.url.length)));
  assert.deepEqual(seen, [["/", ""], ["/a", "/"], ["/b", "/a"], ["/a", "/b"]]);
  assert.deepEqual(named("page").map(({ context }) => context.title).slice(0, 3), ["Shop", "A", "B"]);
  const left = named("engagement").map(({ context }) => [context.url.slice(pages.url.length), context.title]);
  assert.deepEqual(left, [["/", "Shop"], ["/a", "A"], ["/b", "B"]], "engagement is about the page that was left");
});

test("history works as before for the page", async () => {
  await visit("/");
  const state = await page.evaluate(() => {
    history.pushState({ n: 1 }, "", "/a?b");
    return [history.state, location.pathname + location.search, history.length];
  });
  assert.deepEqual(state, [{ n: 1 }, "/a?b", 3]);
  await assert.rejects(page.evaluate(() => history.pushState({}, "", "https://other.example/")), /SecurityError|Failed/);
});

test("with data-hash the hash names a page; with data-pages=manual only calls do", async () => {
  await visit("/hash#/one");
  await page.evaluate(() => (location.hash = "#/two"));
  await eventually("two views", () => named("page").length == 2);
  assert.deepEqual(named("page").map(({ context }) => new URL(context.url).hash), ["#/one", "#/two"]);
  requests = [];
  await visit("/manual");
  await page.evaluate(() => history.pushState({}, "", "/manual/next"));
  await sleep(QUIET_MS);
  assert.equal(named("page").length, 0);
  await page.evaluate(() => trackway.page({ kind: "list" }));
  const view = await one("page");
  assert.deepEqual([view.properties, new URL(view.context.url).pathname], [{ kind: "list" }, "/manual/next"]);
});

test("included twice, it counts once", async () => {
  await visit("/twice");
  await one("page");
  await sleep(QUIET_MS);
  assert.equal(named("page").length, 1);
});

test("a click on a marked element is its event; the page's own handlers cannot hide it", async () => {
  await visit("/");
  await page.evaluate(() => document.body.addEventListener("click", (e) => e.stopPropagation(), true));
  await page.click("#mark");
  const click = await one("Signup clicked");
  assert.deepEqual(click.properties, { plan: "pro", list_price: "9" });
  await page.mouse.click(600, 300);
  await sleep(QUIET_MS);
  assert.equal(events().filter(({ type }) => type == "track").length, 1);
});

test("a link out is an event before the page is left, by beacon; a link within is none", async () => {
  await visit("/");
  await one("page");
  await page.click("#out");
  const out = await one("outbound_click");
  assert.deepEqual(out.properties, { url: "https://other.example/x?y=1" });
  assert.equal(new URL(out.context.url).pathname, "/");
  await one("engagement");
  await visit("/");
  await page.click("#in");
  await page.waitForURL("**/plain");
  await eventually("second engagement", () => named("engagement").length == 2);
  assert.equal(named("outbound_click").length, 1);
});

test("a middle click on a link out counts, a right click does not", async () => {
  await visit("/");
  await page.click("#out", { button: "right" });
  await page.click("#out", { button: "middle" });
  await one("outbound_click");
});

test("engaged time and scroll depth come when the page is left", async () => {
  await visit("/");
  const begin = Date.now();
  await page.mouse.wheel(0, 1500);
  await sleep(1500);
  await page.mouse.wheel(0, -700);
  await sleep(100);
  const elapsed = Date.now() - begin;
  const [bottom, height] = await page.evaluate(() => [1500 + innerHeight, document.documentElement.scrollHeight]);
  await page.goto(`${pages.url}/nothing`);
  const { properties, context } = await one("engagement");
  assert.ok(properties.engaged_ms >= 1400 && properties.engaged_ms < elapsed + 1500, JSON.stringify(properties));
  assert.equal(properties.scroll_percent, Math.round((bottom / height) * 100));
  assert.deepEqual(await waiting(), [], "the beacon has it");
  assert.equal(new URL(context.url).pathname, "/");
});

test("time in the background does not count, and each hiding sends only what is new", async () => {
  const desk = await tabs();
  try {
    const begin = Date.now();
    const shop = await desk.open(`${pages.url}/`);
    await one("page");
    await sleep(500);
    const other = await desk.open(`${pages.url}/nothing`);
    await eventually("the page to be hidden", () => shop.evaluate("document.hidden"));
    const first = (await one("engagement")).properties.engaged_ms;
    assert.ok(first >= 500 && first <= Date.now() - begin, `${first}`);
    const { sent_at } = requests.find(({ events }) => events.some(({ event }) => event == "engagement"));
    assert.ok(Date.parse(sent_at) - Date.parse(named("engagement")[0].time) < 150, "it did not wait for others to come");
    // Also if the page itself goes on meanwhile.
    await shop.evaluate(`history.pushState({}, "", "/in-the-background")`);
    await sleep(1500);
    const shown = Date.now();
    await shop.show();
    await eventually("the page to be seen", () => shop.evaluate("!document.hidden"));
    await sleep(300);
    await other.show();
    await eventually("a second engagement", () => named("engagement").length == 2);
    const second = named("engagement")[1].properties.engaged_ms;
    assert.ok(second >= 250 && second <= Date.now() - shown, `${second} after ${first}`);
    assert.equal(named("page").length, 2);
  } finally {
    await desk.close();
  }
});

test("who does nothing is engaged for half a minute at most", async () => {
  await page.clock.install();
  await visit("/");
  await page.clock.fastForward(600_000);
  await page.mouse.move(5, 5);
  await page.clock.fastForward(10_000);
  await page.goto(`${pages.url}/nothing`);
  const { engaged_ms } = (await one("engagement")).properties;
  assert.ok(engaged_ms >= 40_000 && engaged_ms < 45_000, `${engaged_ms}`);
});

test("before consent nothing is stored or sent; then all that waited is, and consent is said", async () => {
  await visit("/consent");
  await page.evaluate(() => (trackway("before", { n: 1 }), trackway.identify("ann")));
  await page.click("#mark");
  await sleep(QUIET_MS);
  assert.deepEqual([requests.length, await stored()], [0, []]);
  await page.evaluate(() => trackway.consent(true));
  await one("Signup clicked");
  assert.deepEqual(events().map(({ type, event }) => event ?? type), ["page", "before", "identify", "Signup clicked"]);
  assert.ok(events().every(({ context, visitor_id }) => context.consent == "granted" && visitor_id == events()[0].visitor_id));
  // It holds for the next page.
  const visitor = events()[0].visitor_id;
  requests = [];
  await visit("/consent?next");
  assert.equal((await one("page")).visitor_id, visitor);
  requests = [];
  // And is taken back: ids go, nothing more is sent, now and on the next page.
  says = { status: 503 };
  await page.evaluate(() => (trackway("unsent"), trackway.consent(false), trackway("never"), trackway.identify("bob")));
  assert.deepEqual(await stored(), [`trackway.${key}.consent`]);
  await visit("/consent?last");
  await sleep(QUIET_MS);
  assert.deepEqual([requests.length, await stored()], [0, [`trackway.${key}.consent`]]);
  says = {};
  await page.evaluate(() => (trackway.consent(true), trackway("again")));
  assert.notEqual((await one("again")).visitor_id, visitor);
});

test("before consent, leaving sends nothing and leaves nothing behind", async () => {
  await visit("/consent");
  await sleep(300);
  await page.goto(`${pages.url}/nothing`);
  await sleep(QUIET_MS);
  assert.deepEqual([requests.length, await stored()], [0, []]);
});

test("consent taken back in one tab holds in the others", async () => {
  await visit("/");
  await one("page");
  const other = await context.newPage();
  await other.goto(`${pages.url}/plain`);
  await eventually("both views", () => named("page").length == 2);
  await other.evaluate(() => trackway.consent(false));
  await page.evaluate(() => (trackway("never"), trackway.identify("ann")));
  await sleep(QUIET_MS);
  assert.deepEqual([named("never").length, await stored()], [0, [`trackway.${key}.consent`]]);
});

test("Global Privacy Control and Do Not Track are honoured, whatever is called, unless the page says otherwise", async () => {
  for (const [name, value] of [["globalPrivacyControl", true], ["doNotTrack", "1"]]) {
    const context = await browser.newContext();
    await context.addInitScript(
      ([name, value]) => Object.defineProperty(Navigator.prototype, name, { get: () => value }),
      [name, value],
    );
    const page = await context.newPage();
    await page.goto(`${pages.url}/`);
    await page.waitForFunction(() => window.trackway?.version);
    await page.evaluate(() => (trackway("never"), trackway.identify("ann"), trackway.consent(true), trackway("never")));
    await page.goto(`${pages.url}/nothing`);
    await sleep(QUIET_MS);
    assert.equal(requests.length, 0, name);
    await page.goto(`${pages.url}/ignore`);
    await one("page");
    await context.close();
    requests = [];
    key++;
  }
});

test("with data-storage=none nothing is stored and no visitor is named", async () => {
  await visit("/memory");
  await page.evaluate(() => (trackway.identify("ann"), trackway("bought")));
  const bought = await one("bought");
  assert.deepEqual([bought.visitor_id, bought.user_id], [undefined, "ann"]);
  assert.deepEqual([await stored(), await context.cookies()], [[], []]);
  await page.goto(`${pages.url}/nothing`);
  await one("engagement");
});

test("a browser that forbids storage is no error", async () => {
  await visit("/broken");
  assert.equal((await one("page")).visitor_id, undefined);
});

test("a full disk is no loss", async () => {
  await visit("/");
  await one("page");
  await page.evaluate(() => {
    let size = 1 << 22;
    for (let n = 0; size; n++) {
      try {
        localStorage["fill" + n] = "x".repeat(size);
      } catch {
        size >>= 1;
      }
    }
    for (let n = 0; n < 5; n++) trackway("squeezed", { n });
  });
  await eventually("all of them", () => named("squeezed").length == 5);
  await page.evaluate(() => trackway.consent(true));
  await sleep(QUIET_MS);
  assert.equal(named("squeezed").length, 5);
});

test("nonsense from the page stays without effect", async () => {
  await visit("/");
  await page.evaluate(() => {
    const circle = {};
    circle.circle = circle;
    trackway("circle", circle);
    trackway("big", { n: 1n });
    document.dispatchEvent(new Event("click"));
    trackway("fine");
  });
  await one("fine");
  assert.deepEqual([named("circle").length, named("big").length], [0, 0]);
});

test("what happens offline is sent when the browser is online again", async () => {
  await visit("/");
  await one("page");
  await context.setOffline(true);
  await page.evaluate(() => (trackway("offline", { n: 1 }), trackway("offline", { n: 2 })));
  await sleep(QUIET_MS);
  assert.equal(named("offline").length, 0);
  assert.equal((await waiting()).length, 2);
  await context.setOffline(false);
  await eventually("both", () => named("offline").length == 2, 900);
  assert.deepEqual(named("offline").map(({ properties }) => properties.n), [1, 2]);
  await sleep(QUIET_MS);
  assert.equal(named("offline").length, 2);
});

test("what waits survives the page, and is sent once on the next visit, with its time and id", async () => {
  await visit("/");
  await one("page");
  says = { status: 503 };
  await page.evaluate(() => trackway("kept", { n: 1 }));
  await eventually("a first attempt", () => requests.at(-1).status == 503);
  const [kept] = requests.at(-1).events;
  await page.goto(`${pages.url}/nothing`);
  assert.equal((await waiting()).length, 2, "engagement waits too: no beacon");
  await page.reload();
  says = {};
  await visit("/plain");
  assert.deepEqual(await one("kept"), kept);
  assert.equal(named("engagement").length, 1);
});

test("offline, leaving sends no beacon into the void", async () => {
  await visit("/");
  await one("page");
  await context.setOffline(true);
  await page.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pagehide")));
  await context.setOffline(false);
  await one("engagement");
});

test("beyond a hundred the oldest are dropped", async () => {
  await visit("/");
  await one("page");
  await context.setOffline(true);
  await page.evaluate(() => {
    for (let n = 0; n < 130; n++) trackway("many", { n });
  });
  assert.equal((await waiting()).length, 100);
  await context.setOffline(false);
  await eventually("a hundred", () => named("many").length == 100);
  assert.deepEqual(named("many").map(({ properties }) => properties.n), [...Array(130).keys()].slice(30));
  assert.ok(requests.every(({ events }) => events.length <= 50));
});

for (const [what, answer] of [["500", { status: 500 }], ["429", { status: 429 }], ["a broken connection", { reset: true }]]) {
  test(`${what}: sent again, later each time, in one copy`, async () => {
    says = answer;
    await visit("/");
    // The browser itself repeats at once what went into a kept connection that broke.
    const attempts = () => requests.map(({ at }) => at).filter((at, n, all) => !n || at - all[n - 1] > 500);
    await eventually("three attempts", () => attempts().length == 3);
    const [first, second, third] = attempts();
    assert.ok(second - first >= 1000 && third - second >= 2000, `${second - first} ms, ${third - second} ms`);
    says = {};
    await one("page");
    await sleep(QUIET_MS);
    assert.equal(arrived().filter(({ type }) => type == "page").length, 1);
  });
}

test("Retry-After is honoured, also by what happens meanwhile", async () => {
  says = { status: 429, headers: { "retry-after": "3" } };
  await visit("/");
  await eventually("a refusal", () => requests.length);
  says = {};
  await page.evaluate(() => trackway("meanwhile"));
  await one("meanwhile");
  assert.ok(requests[1].at - requests[0].at >= 2950, `${requests[1].at - requests[0].at} ms`);
  assert.equal(requests.length, 2);
  assert.deepEqual(requests[1].events.map(({ type }) => type), ["page", "track"]);
});

for (const status of [400, 401, 413]) {
  test(`${status} is the last word`, async () => {
    says = { status };
    await visit("/");
    await eventually("a refusal", () => requests.length);
    says = {};
    await page.evaluate(() => trackway("next"));
    await one("next");
    assert.equal(named("page").length, 0, JSON.stringify(requests));
    await eventually("nothing to wait", async () => !(await waiting()).length);
  });
}

test("what is underway when the page is left is not sent by beacon, too", async () => {
  says = { afterMs: 700 };
  await visit("/");
  await sleep(350);
  await page.evaluate(() => trackway("while underway"));
  await page.goto(`${pages.url}/nothing`);
  await eventually("both", () => named("while underway").length && named("page").length);
  await sleep(1000);
  assert.equal(arrived().filter(({ type }) => type == "page").length, 1);
});

test("tabs share what waits: nothing is lost, and what comes twice has one id", async () => {
  await visit("/");
  await one("page");
  const tabs = [page];
  for (let n = 0; n < 3; n++) {
    const tab = await context.newPage();
    await tab.goto(`${pages.url}/plain`);
    await tab.waitForFunction(() => window.trackway?.version);
    tabs.push(tab);
  }
  says = { status: 503, afterMs: 50 };
  for (let round = 0; round < 5; round++) {
    await Promise.all(tabs.map((tab, n) => tab.evaluate(([n, round]) => trackway("shared", { n, round }), [n, round])));
  }
  await sleep(400);
  says = { afterMs: 50 };
  const all = () => new Map(named("shared").map(({ id, properties }) => [id, `${properties.n}/${properties.round}`]));
  await eventually("all twenty", () => all().size == 20);
  await sleep(QUIET_MS);
  assert.equal(new Set(all().values()).size, 20);
  assert.equal(all().size, 20);
  await eventually("nothing to wait", async () => !(await waiting()).length);
});

test("a page that comes back from the browser's memory is viewed again", async () => {
  await visit("/");
  await one("page");
  await page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await eventually("a second view", () => named("page").length == 2);
});

test("large events go without keepalive, and arrive", async () => {
  await visit("/");
  await page.evaluate(() => trackway("large", { text: "ü".repeat(60_000) }));
  assert.equal((await one("large")).properties.text.length, 60_000);
});
