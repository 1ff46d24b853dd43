// What every browser test needs: one browser for a file, pages that must stay silent, the fake engine.

import { readFile } from "node:fs/promises";
import * as runner from "node:test";

import { BROWSER, browserFor, site } from "./browser.mjs";

export { BROWSER, site };

const FAKE = await readFile(new URL("fake-engine.js", import.meta.url), "utf8");
let browser;

/**
 * Call once at the top of a test file. `flags`: more of Chromium's, for this file alone.
 *
 * A file runs in Chromium and in Firefox, unless a line of its own begins with `// Needs no browser.` or `// Only in Chromium: ` and
 * the reason.
 */
export function withBrowser(flags = []) {
  runner.before(async () => {
    browser = await browserFor(flags);
  });
  // A shared browser stays; only this process leaves it.
  runner.after(() => browser?.close());
}

/** Options for a test that Firefox cannot run, with the reason, which is shown where the test is skipped. */
export const notInFirefox = (reason) => ({ skip: BROWSER === "firefox" && `not in Firefox: ${reason}` });

/**
 * Opens a page of the site, or an empty one on its origin, or the one at the address `at`. It closes with the test `t`, which fails
 * if the page had an uncaught error or asked another machine for anything.
 * `beside`: another page, whose storage this one shares. `servers`: origins that it may ask. `before`: code that the
 * worker runs before the fake engine.
 * @param {{ path?: string, at?: string, engine?: "real" | "fake", setup?: (page: import("playwright-core").Page) => Promise<unknown>,
 *   beside?: import("playwright-core").Page, servers?: string[], before?: string }} options
 */
export async function open(t, { path, at, engine = "real", setup, beside, servers = [], before = "", ...context } = {}) {
  // A service worker would answer in place of the routes that tests put in.
  const shared = beside?.context() ?? (await browser.newContext({ serviceWorkers: "block", ...context }));
  const page = await shared.newPage();
  // Only against hanging for good: how long anything takes is no concern of these tests.
  page.setDefaultTimeout(Number(process.env.FANLIGHT_PATIENCE_MS ?? 300_000));
  const faults = [];
  page.on("pageerror", (error) => isReport(error) || faults.push(`uncaught: ${error.stack ?? error}`));
  page.on("request", (request) => {
    const url = new URL(request.url());
    const own = [new URL(at ?? site()).origin, ...servers].includes(url.origin);
    if (/^https?:$/.test(url.protocol) && !own) faults.push(`asked for ${url}`);
  });
  t.after(async () => {
    await (beside ? page.close() : shared.close());
    if (faults.length > 0) throw new Error(faults.join("\n"));
  });
  if (engine === "fake") {
    const body = `${before}\n${FAKE}`;
    await page.route("**/wasm/fanlight.js", (route) => route.fulfill({ contentType: "text/javascript", body }));
  }
  await setup?.(page);
  await page.goto(at ?? site() + (path ?? "blank/"));
  return page;
}

/**
 * Whether an error of a page is only what Firefox wrote into its console about a request: that it was refused, which the code that made
 * the request is told as well, or that the page's policy allows no icon.
 */
export function isReport(error) {
  if (BROWSER !== "firefox") return false;
  const text = String(error.stack ?? error);
  return /^(Cross-Origin Request Blocked|Security Error: Content at|Loading Worker from|.*\(img-src\) at (data:|\S*\/favicon\.ico))/.test(text);
}

/** An error as the page's code sees it, in a form that crosses to the test. Use inside `page.evaluate`. */
export const caught = `async (promise) => {
  try { return { value: await promise }; }
  catch (e) { return { name: e.name, code: e.code, message: e.message, hint: e.hint, retryable: e.retryable }; }
}`;

/** Runs `body` in the page with the package's exports and `caught` in scope. */
export function withPackage(page, body, argument) {
  const code = `async (argument) => {
    const fanlight = await import("/src/index.js");
    const caught = ${caught};
    return (${body})(fanlight, argument, caught);
  }`;
  return page.evaluate(`(${code})(${JSON.stringify(argument) ?? "undefined"})`);
}
