// The same with trackers for servers, from npm: `node server.mjs TRACKER GATEWAY WRITE_KEY` does a known list of things
// and ends when the tracker says that all is sent.
//
// The list: user-7 views a product, an hour ago by an explicit time; becomes known with traits; takes 45 steps; buys.

import { require } from "./browser.mjs";

const PRODUCT = { sku: "A-1", price: 19.5, list: "Käse & Früchte", tags: ["new", "ü"] };
const ORDER = { order: "o-1", total: 39, paid: true };
const TRAITS = { plan: "pro" };
const STEPS = 45;
const EARLIER = new Date(Date.now() - 3_600_000);

const [name, gateway, key] = process.argv.slice(2);
const errors = [];

const TRACKERS = {
  async "posthog-node"() {
    const { PostHog } = require("posthog-node");
    const posthog = new PostHog(key, { host: gateway, flushAt: 20 });
    posthog.on("error", (error) => errors.push(`${error}`));
    const capture = (event, properties, timestamp) =>
      posthog.capture({ distinctId: "user-7", event, properties, timestamp });
    capture("product_viewed", PRODUCT, EARLIER);
    posthog.identify({ distinctId: "user-7", properties: TRAITS });
    for (let n = 0; n < STEPS; n++) capture("step", { n });
    capture("purchase", ORDER);
    await posthog.shutdown();
  },
  async "@segment/analytics-node"() {
    const { Analytics } = require("@segment/analytics-node");
    const analytics = new Analytics({ writeKey: key, host: gateway, flushAt: 20 });
    analytics.on("error", (error) => errors.push(`${error.reason ?? error}`));
    const track = (event, properties, timestamp) => analytics.track({ userId: "user-7", event, properties, timestamp });
    track("product_viewed", PRODUCT, EARLIER);
    analytics.identify({ userId: "user-7", traits: TRAITS });
    for (let n = 0; n < STEPS; n++) track("step", { n });
    track("purchase", ORDER);
    await analytics.closeAndFlush();
  },
};

if (!TRACKERS[name]) throw new Error(`no tracker ${name}; there are ${Object.keys(TRACKERS).join(", ")}`);
await TRACKERS[name]();
console.log(JSON.stringify({ earlier_ms: EARLIER.getTime(), errors }));
