// The demonstration page without a network, and when there is a new version of it.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { test } from "node:test";

import { FAKE, askAndWait, lastAnswer, ready, sample } from "../support/demo-page.mjs";
import { BROWSER, open, site, withBrowser } from "../support/helpers.mjs";

withBrowser();

/**
 * The site on another port, with the fake engine and some files replaced: what a server is that gets a new version. A service
 * worker's requests pass the routes of a page by, so that the engine has to be replaced here. `clean`: the server redirects
 * `index.html` to its folder, as Cloudflare Pages and others do.
 */
async function mirror(t, { clean = false } = {}) {
  const held = { files: { "wasm/fanlight.js": FAKE }, listed: {} };
  const server = createServer(async (request, response) => {
    const asked = new URL(request.url, "http://-").pathname.slice(1);
    if (clean && /(^|\/)index\.html$/.test(asked)) {
      return response.writeHead(308, { location: `/${asked.replace(/index\.html$/, "")}`, "cache-control": "no-cache" }).end();
    }
    const path = asked.replace(/(^|\/)$/, "$1index.html");
    const answer = await fetch(site() + path, { headers: request.headers.range ? { range: request.headers.range } : {} });
    let body = held.files[path] ?? Buffer.from(await answer.arrayBuffer());
    if (path === "sw.js") {
      const hash = (bytes) => createHash("sha256").update(bytes).digest("hex");
      const listed = { ...held.files, ...held.listed };
      const files = JSON.parse(/const FILES = (.*);/.exec(body)[1]);
      for (const [name, bytes] of Object.entries(listed)) files[name] = hash(bytes);
      const text = String(body).replace(/const FILES = .*;/, `const FILES = ${JSON.stringify(files)};`);
      body = text.replace(/const VERSION = .*;/, `const VERSION = "${hash(JSON.stringify(files)).slice(0, 16)}";`);
    }
    const type = answer.headers.get("content-type");
    const range = answer.headers.get("content-range");
    response.writeHead(held.files[path] ? 200 : answer.status, { "content-type": type, "cache-control": "no-cache", ...(range && { "content-range": range }) });
    response.end(body);
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  t.after(stop);
  return { held, stop, origin: `http://localhost:${server.address().port}` };
}

/** Opens the page and waits until its service worker has everything. */
async function installed(page, origin) {
  await page.goto(`${origin}/`);
  await ready(page);
  await page.evaluate(() => navigator.serviceWorker.ready);
}

test("after the first visit the page opens and answers without a network", async (t) => {
  const { origin, stop } = await mirror(t);
  const page = await open(t, { serviceWorkers: "allow", servers: [origin], viewport: { width: 1280, height: 800 } });
  await installed(page, origin);
  const urls = await page.evaluate(async () => {
    const caches = await Promise.all((await globalThis.caches.keys()).map((name) => globalThis.caches.open(name)));
    return (await Promise.all(caches.map((cache) => cache.keys()))).flat().map(({ url }) => url);
  });
  assert.deepEqual(urls.filter((url) => !url.startsWith(origin)), []);
  if (BROWSER === "firefox") {
    // Firefox, told to be offline, asks no service worker for a page: here the server goes away.
    stop();
    await page.reload();
  } else {
    await page.context().setOffline(true);
    await page.reload();
    await page.getByText("Offline", { exact: true }).waitFor();
  }
  await ready(page);
  await sample(page);
  await askAndWait(page, "What does the red button say?");
  assert.match(await lastAnswer(page).locator(".answer").textContent(), /^Delete account \(1 pictures/);
  const got = await page.evaluate(async () => {
    const lengths = ["wasm/fanlight_bg.wasm", "models/screen-reader/model.safetensors", "models/screen-reader/tokenizer.json", "mediabunny/mediabunny.js"].map(
      async (file) => (await (await fetch(file)).arrayBuffer()).byteLength,
    );
    const piece = await fetch("models/screen-reader/config.json", { headers: { range: "bytes=2-5" } });
    const whole = await (await fetch("models/screen-reader/config.json")).text();
    return { lengths: await Promise.all(lengths), status: piece.status, same: (await piece.text()) === whole.slice(2, 6) };
  });
  assert.ok(got.lengths.every((length) => length > 10_000), "the engine and the model are there");
  assert.deepEqual([got.status, got.same], [206, true], "also pieces of files");
  await assert.rejects(page.evaluate(() => fetch("nothing")), "what is no file of the page is not answered");
});

test("on a host that redirects index.html every visit after the first opens, with and without a network", async (t) => {
  const { origin, stop } = await mirror(t, { clean: true });
  const page = await open(t, { serviceWorkers: "allow", servers: [origin], viewport: { width: 1280, height: 800 } });
  await installed(page, origin);
  const redirected = await page.evaluate(async () => {
    const cache = await caches.open((await caches.keys())[0]);
    const all = await Promise.all((await cache.keys()).map((request) => cache.match(request)));
    return { files: all.length, redirected: all.filter((response) => response.redirected).length };
  });
  assert.ok(redirected.files > 50);
  assert.equal(redirected.redirected, 0);
  await page.reload();
  await ready(page);
  // What an earlier version of the service worker has cached is a redirected response, which may not answer a navigation.
  await page.evaluate(async () => {
    const cache = await caches.open((await caches.keys())[0]);
    await cache.put("index.html", await fetch("index.html?around-the-cache", { cache: "reload" }));
  });
  await page.reload();
  await ready(page);
  await page.evaluate(async () => (await caches.open((await caches.keys())[0])).put("index.html", new Response("<title>kept</title>", { headers: { "content-type": "text/html" } })));
  stop();
  await page.goto(`${origin}/`);
  assert.equal(await page.title(), "kept");
});

test("a new version is taken whole, when it is asked for and no other tab is at work, or not at all", async (t) => {
  const { held, origin } = await mirror(t);
  const index = await (await fetch(site())).text();
  const titled = (title) => index.replace(/<title>.*<\/title>/, `<title>${title}</title>`);
  held.files = { ...held.files, "index.html": Buffer.from(titled("one")) };
  const page = await open(t, { serviceWorkers: "allow", servers: [origin], viewport: { width: 1280, height: 800 } });
  await installed(page, origin);
  await page.reload();
  await ready(page);

  // A server between two versions: the list is new, a file is not.
  held.listed = { "demo/styles/base.css": Buffer.from("new") };
  const failed = await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.getRegistration();
    await registration.update().catch(() => {});
    const next = registration.installing ?? registration.waiting;
    while (next && !["redundant", "installed", "activated"].includes(next.state)) await new Promise((resolve) => setTimeout(resolve, 20));
    return next?.state ?? "none";
  });
  assert.ok(["redundant", "none"].includes(failed), failed);
  await page.reload();
  assert.equal(await page.title(), "one");
  await ready(page);

  held.listed = {};
  held.files = { ...held.files, "index.html": Buffer.from(titled("two")) };
  const other = await page.context().newPage();
  await other.goto(`${origin}/`);
  await page.reload();
  assert.equal(await page.title(), "one", "what is kept is shown");
  await page.getByText("A new version of this page is ready.").waitFor();
  await page.getByRole("button", { name: "Use it" }).click();
  await page.getByText("Close the other tabs").waitFor();
  assert.equal(await page.title(), "one");
  await other.close();
  await page.getByRole("button", { name: "Use it" }).click();
  await page.waitForFunction(() => document.title === "two");
  await ready(page);
  assert.equal(await page.evaluate(async () => (await caches.keys()).length), 1, "nothing is left of the version before");
  await askAndWait(page, "Read the text.");
});
