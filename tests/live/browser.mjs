// Debian's Chromium, headless, driven by playwright-core; and a site for it to visit.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where `npm ci` has put the packages: `cargo xtask setup` does it. */
export const MODULES = process.env.LIVE_MODULES ?? new URL("../../.trackway/live", import.meta.url).pathname;
export const require = createRequire(join(MODULES, "package.json"));

/** Text of a file that a package ships. */
export const shipped = (path) => readFileSync(join(MODULES, "node_modules", path), "utf8");

const CHROMIUM = process.env.LIVE_CHROMIUM ?? "/usr/bin/chromium";
/** They keep Chromium from looking for its maker's hosts. As root, as which CI runs, it has no sandbox. */
const FLAGS = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"];
FLAGS.push("--disable-sync", "--no-first-run", "--no-sandbox");

/** A visitor as there are many: some trackers send nothing for a browser that says it is headless or driven. */
const PLAIN = "--user-agent=Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
FLAGS.push(PLAIN, "--disable-blink-features=AutomationControlled");

export const launch = () => require("playwright-core").chromium.launch({ executablePath: CHROMIUM, args: FLAGS });

/**
 * Chromium without the driver, which makes every page believe that it is seen and has the focus. Here tabs hide each
 * other as they do on a desk. `open` gives a tab: `{show(), evaluate(expression)}`.
 */
export async function tabs() {
  const profile = mkdtempSync(join(tmpdir(), "trackway-live-"));
  const args = [...FLAGS, "--headless=new", "--remote-debugging-pipe", `--user-data-dir=${profile}`];
  const chromium = spawn(CHROMIUM, args, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const [, , , input, output] = chromium.stdio;
  const asked = new Map();
  let told = "";
  output.setEncoding("utf8").on("data", (text) => {
    told += text;
    for (let end; (end = told.indexOf("\0")) >= 0; told = told.slice(end + 1)) {
      const { id, error, result } = JSON.parse(told.slice(0, end));
      const [resolve, reject] = asked.get(id) ?? [];
      asked.delete(id);
      error ? reject?.(new Error(error.message)) : resolve?.(result);
    }
  });
  let last = 0;
  const ask = (method, params, sessionId) =>
    new Promise((resolve, reject) => {
      asked.set(++last, [resolve, reject]);
      input.write(JSON.stringify({ id: last, method, params, sessionId }) + "\0");
    });
  return {
    async open(url) {
      const { targetId } = await ask("Target.createTarget", { url });
      const { sessionId } = await ask("Target.attachToTarget", { targetId, flatten: true });
      return {
        show: () => ask("Target.activateTarget", { targetId }),
        evaluate: async (expression) =>
          (await ask("Runtime.evaluate", { expression, returnByValue: true }, sessionId)).result.value,
      };
    },
    async close() {
      const ended = once(chromium, "exit");
      await ask("Browser.close");
      await ended;
      // Its helpers end after it, and may still write for a moment.
      const removed = () => {
        try {
          return rmSync(profile, { recursive: true, force: true }) ?? true;
        } catch {
          return false;
        }
      };
      await eventually(`${profile} to be removed`, removed);
    },
  };
}

/** Serves on a free port of the loopback. */
export async function serve(answer) {
  const server = createServer(answer);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { server, port: server.address().port, close };
}

/**
 * A site: what `pages` has for a path (without its query), which is text or a function of the URL that makes it. Scripts
 * end in `.js`, everything else is HTML.
 */
export async function site(pages) {
  const served = await serve((request, response) => {
    const url = new URL(request.url, "http://site");
    const page = pages[url.pathname] ?? pages["*"];
    if (page === undefined) return response.writeHead(404).end();
    const type = url.pathname.endsWith("js") ? "text/javascript" : "text/html";
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` });
    response.end(typeof page === "function" ? page(url) : page);
  });
  return { ...served, url: `http://localhost:${served.port}` };
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Looks until `look` gives something; throws what it saw last when that takes too long. */
export async function eventually(what, look, ms = 15_000) {
  const deadline = Date.now() + ms;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > deadline) throw new Error(`waited ${ms} ms for ${what}`);
    await sleep(20);
  }
}
