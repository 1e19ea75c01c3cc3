// Makes `trackers/web/t.min.js` and its digest out of `trackers/web/t.js`. Run by `cargo xtask tracker`; the browser test compares.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";
import { require } from "./browser.mjs";

const SOURCE = new URL("../../trackers/web/t.js", import.meta.url);
export const SMALL = new URL("../../trackers/web/t.min.js", import.meta.url);
/** What `integrity` of a page says of it. */
export const DIGEST = new URL("../../trackers/web/t.min.js.integrity", import.meta.url);
/** What a page pays for it at most, gzipped. */
export const GZIP_BYTES_MAX = 2047;

export async function minified() {
  // `unsafe_arrows`: a function of ours is never called with `new`.
  const compress = { passes: 3, unsafe_arrows: true };
  const { code } = await require("terser").minify(readFileSync(SOURCE, "utf8"), { ecma: 2020, compress });
  return code;
}

export const digest = (text) => `sha384-${createHash("sha384").update(text).digest("base64")}\n`;
export const gzipBytes = (text) => gzipSync(text, { level: 9 }).length;

if (import.meta.url == pathToFileURL(process.argv[1]).href) {
  const code = await minified();
  const bytes = gzipBytes(code);
  if (bytes > GZIP_BYTES_MAX) throw new Error(`it is ${bytes} bytes gzipped, limit is ${GZIP_BYTES_MAX}`);
  writeFileSync(SMALL, code);
  writeFileSync(DIGEST, digest(code));
  console.log(`trackers/web/t.min.js: ${code.length} bytes, gzipped ${bytes} of ${GZIP_BYTES_MAX}`);
}
