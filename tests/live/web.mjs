// Visits a shop's page with one tracker in it, unmodified, does a known list of things there, and tells what the gateway
// answered. `node web.mjs TRACKER GATEWAY WRITE_KEY`; what arrived is for `trackers_live.rs` to judge.
//
// The list: a page is viewed; a product is viewed; the visitor becomes user-7; they buy; a second page is viewed, as
// single-page applications do; the page is left right after `goodbye`.

import { launch, shipped, site, sleep } from "./browser.mjs";

const PRODUCT = { sku: "A-1", price: 19.5, list: "Käse & Früchte", tags: ["new", "ü"] };
const ORDER = { order: "o-1", total: 39, paid: true };
const TRAITS = { plan: "pro" };

/**
 * Of each tracker: its file, as its package ships it for browsers, how a page starts it, and how it says each thing on
 * the list. All in the words of its own documentation. `waitMs`: how long it gathers what it sends.
 */
const TRACKERS = {
  trackway: {
    head: (gateway, key) => `<script async src="${gateway}/t.js" data-key="${key}"></script>`,
    ready: "window.trackway?.version",
    view: "0",
    product: `trackway("product_viewed", PRODUCT)`,
    identify: `trackway.identify("user-7", TRAITS)`,
    buy: `trackway("purchase", ORDER)`,
    next: `history.pushState({}, "", "/shop/second")`,
    goodbye: `trackway("goodbye")`,
    waitMs: 1000,
  },
  "posthog-js": {
    file: "posthog-js/dist/array.full.js",
    start: (gateway, key) => `posthog.init("${key}", {api_host: "${gateway}", capture_pageview: false, autocapture: false,
      capture_pageleave: false, disable_session_recording: true})`,
    view: `posthog.capture("$pageview")`,
    product: `posthog.capture("product_viewed", PRODUCT)`,
    identify: `posthog.identify("user-7", TRAITS)`,
    buy: `posthog.capture("purchase", ORDER)`,
    next: `(history.pushState({}, "", "/shop/second"), posthog.capture("$pageview"))`,
    goodbye: `posthog.capture("goodbye")`,
    waitMs: 5000,
  },
  "@segment/analytics-next": {
    file: "@segment/analytics-next/dist/umd/index.js",
    start: (gateway, key) => `var analytics = AnalyticsNext.AnalyticsBrowser.load({writeKey: "${key}", cdnSettings:
      {integrations: {"Segment.io": {apiKey: "${key}", apiHost: "${new URL(gateway).host}/v1", protocol: "http"}}}})`,
    view: `analytics.page()`,
    product: `analytics.track("product_viewed", PRODUCT)`,
    identify: `analytics.identify("user-7", TRAITS)`,
    buy: `analytics.track("purchase", ORDER)`,
    next: `(history.pushState({}, "", "/shop/second"), analytics.page())`,
    goodbye: `void analytics.track("goodbye")`,
    waitMs: 1000,
  },
  "@snowplow/browser-tracker": {
    file: "@snowplow/browser-tracker/dist/index.umd.min.js",
    start: (gateway, key) => `var sp = snowplowBrowserTracking; sp.newTracker("sp", "${gateway}", {appId: "${key}"})`,
    view: `sp.trackPageView()`,
    product: `sp.trackSelfDescribingEvent({event: {schema: "iglu:com.shop/product_viewed/jsonschema/1-0-0", data: PRODUCT}})`,
    identify: `sp.setUserId("user-7")`,
    buy: `sp.trackSelfDescribingEvent({event: {schema: "iglu:com.shop/purchase/jsonschema/1-0-0", data: ORDER}})`,
    next: `(history.pushState({}, "", "/shop/second"), sp.trackPageView())`,
    goodbye: `sp.trackStructEvent({category: "shop", action: "goodbye"})`,
    waitMs: 1000,
  },
  "@rudderstack/analytics-js": {
    file: "@rudderstack/analytics-js/dist/npm/modern/bundled/umd/index.js",
    start: (gateway, key) => `var ra = new (self.rudderanalytics.RudderAnalytics ?? self.rudderanalytics)();
      ra.load("${key}", "${gateway}", {configUrl: location.origin, sendAdblockPage: false, useBeacon: false})`,
    ready: "new Promise((resolve) => ra.ready(() => resolve(true)))",
    view: `ra.page()`,
    product: `ra.track("product_viewed", PRODUCT)`,
    identify: `ra.identify("user-7", TRAITS)`,
    buy: `ra.track("purchase", ORDER)`,
    next: `(history.pushState({}, "", "/shop/second"), ra.page())`,
    goodbye: `ra.track("goodbye")`,
    waitMs: 3000,
  },
  "mixpanel-browser": {
    file: "mixpanel-browser/dist/mixpanel.umd.js",
    start: (gateway, key) => `mixpanel.init("${key}", {api_host: "${gateway}", track_pageview: false, autocapture: false,
      batch_flush_interval_ms: 1000, persistence: "localStorage"})`,
    view: `mixpanel.track_pageview()`,
    product: `mixpanel.track("product_viewed", PRODUCT)`,
    identify: `(mixpanel.identify("user-7"), mixpanel.people.set(TRAITS))`,
    buy: `mixpanel.track("purchase", ORDER)`,
    next: `(history.pushState({}, "", "/shop/second"), mixpanel.track_pageview())`,
    goodbye: `mixpanel.track("goodbye")`,
    waitMs: 3000,
  },
  "@amplitude/analytics-browser": {
    file: "@amplitude/analytics-browser/lib/scripts/amplitude-min.umd.js",
    start: (gateway, key) => `amplitude.init("${key}", {serverUrl: "${gateway}/2/httpapi", autocapture: false,
      fetchRemoteConfig: false, remoteConfig: {fetchRemoteConfig: false}, flushIntervalMillis: 500})`,
    view: `amplitude.track("Page Viewed")`,
    product: `amplitude.track("product_viewed", PRODUCT)`,
    identify: `(amplitude.setUserId("user-7"), amplitude.identify(new amplitude.Identify().set("plan", "pro")))`,
    buy: `amplitude.track("purchase", ORDER)`,
    next: `(history.pushState({}, "", "/shop/second"), amplitude.track("Page Viewed"))`,
    // As its documentation has it for pages that are left.
    goodbye: `(amplitude.setTransport("beacon"), amplitude.track("goodbye"), void amplitude.flush())`,
    waitMs: 2000,
  },
  "@plausible-analytics/tracker": {
    module: "@plausible-analytics/tracker/plausible.js",
    start: (gateway, key) => `import { init, track } from "/module.js";
      init({domain: "${key}", endpoint: "${gateway}/api/event", captureOnLocalhost: true, autoCapturePageviews: false,
        logging: false});
      self.track = track`,
    ready: "window.track",
    view: `track("pageview", {})`,
    product: `track("product_viewed", {props: {sku: "A-1", price: "19.5", list: "Käse & Früchte"}})`,
    identify: "0",
    buy: `track("purchase", {props: {order: "o-1"}, revenue: {amount: 39, currency: "EUR"}})`,
    next: `(history.pushState({}, "", "/shop/second"), track("pageview", {}))`,
    goodbye: `track("goodbye", {})`,
    waitMs: 500,
  },
};

const [name, gateway, key] = process.argv.slice(2);
const tracker = TRACKERS[name];
if (!tracker) throw new Error(`no tracker ${name}; there are ${Object.keys(TRACKERS).join(", ")}`);

const { file, module, start } = tracker;
const head =
  tracker.head?.(gateway, key) ??
  (module
    ? `<script type="module">${start(gateway, key)}</script>`
    : `<script src="/file.js"></script><script>${start(gateway, key)}</script>`);
const html = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Käse & Früchte – Shop</title>${head}`;
const pages = await site({
  "/shop": html,
  "/shop/second": html,
  "/elsewhere": "<!doctype html><title>Elsewhere</title>",
  "/file.js": file ? shipped(file) : "",
  "/module.js": module ? shipped(module) : "",
  // RudderStack's: which destinations a source has.
  "/sourceConfig/": JSON.stringify({
    source: { id: "shop", name: "shop", writeKey: key, enabled: true, connections: [], destinations: [],
      config: { statsCollection: { errors: { enabled: false }, metrics: { enabled: false } } } },
  }),
});
const browser = await launch();
const context = await browser.newContext({ locale: "de-DE" });
const answers = [];
const errors = [];
let leaving = false;
context.on("response", (response) => {
  const request = response.request();
  const url = new URL(request.url());
  if (url.origin != gateway) return;
  answers.push({ method: request.method(), path: url.pathname, status: response.status() });
});
context.on("requestfailed", (request) => {
  // A page that is left does not hear its last answers; the gateway counts those events all the same.
  if (request.url().startsWith(gateway) && !leaving) errors.push(`${request.url()}: ${request.failure()?.errorText}`);
});
// Nothing leaves the machine, whatever a tracker has in mind.
await context.route((url) => !["localhost", "127.0.0.1"].includes(url.hostname), (route) => {
  errors.push(`it asked ${new URL(route.request().url()).host}`);
  return route.abort();
});
const page = await context.newPage();
page.on("pageerror", (error) => errors.push(`${error}`));
page.on("console", (message) => message.type() == "error" && errors.push(message.text()));

const doIt = (code) => page.evaluate(`(() => { const PRODUCT = ${JSON.stringify(PRODUCT)}, ORDER = ${JSON.stringify(ORDER)},
  TRAITS = ${JSON.stringify(TRAITS)}; ${code.startsWith("void") ? code : `return void (${code})`} })()`);
await page.goto(`${pages.url}/shop?utm_source=news&utm_medium=email`);
if (tracker.ready) await page.waitForFunction(tracker.ready);
for (const step of ["view", "product", "identify", "buy", "next"]) {
  await doIt(tracker[step]);
  // People are not that quick either; and a tracker that stamps whole milliseconds keeps its order.
  await sleep(100);
}
await sleep(tracker.waitMs);
leaving = true;
await doIt(tracker.goodbye);
await page.goto(`${pages.url}/elsewhere`);
await sleep(1000);
await browser.close();
await pages.close();
console.log(JSON.stringify({ site: pages.url, answers, errors }));
