// The page as a server should send it: with its Content-Security-Policy as a header, which binds the worker too and forbids frames.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { askAndWait, demo, ready } from "../support/demo-page.mjs";
import { notInFirefox, open, withBrowser, withPackage } from "../support/helpers.mjs";
import { serve } from "../support/static.mjs";

withBrowser();

const DIST = fileURLToPath(new URL("../../../www/dist", import.meta.url));
const [, policy] = /Content-Security-Policy: (.*)/.exec(await readFile(`${DIST}/_headers`, "utf8"));

test("the policy that is sent is the page's own, and forbids frames", async () => {
  const [, own] = /http-equiv="Content-Security-Policy"\s+content="([^"]*)"/.exec(await readFile(`${DIST}/index.html`, "utf8"));
  assert.equal(policy, `${own}; frame-ancestors 'none'`);
});

test("with the policy as a header the page works, and its worker reads nothing that the page may not", async (t) => {
  const server = await serve(DIST, { "content-security-policy": policy });
  t.after(server.close);
  const reached = [];
  const foreign = createServer((request, response) => {
    reached.push(request.url);
    response.writeHead(404, { "access-control-allow-origin": "*" }).end();
  });
  // Not "localhost", whose every port the policy allows for models of one's own.
  await new Promise((resolve) => foreign.listen(0, "127.0.0.1", resolve));
  t.after(() => (foreign.close(), foreign.closeAllConnections()));
  const origin = `http://127.0.0.1:${foreign.address().port}`;
  const page = await demo(t, { at: server.url, servers: [origin] });
  await ready(page);
  await askAndWait(page, "Read the text.");
  const refused = await withPackage(page, ({ load }, url, caught) => caught(load(url, { signal: AbortSignal.timeout(3000) })), `${origin}/m/`);
  assert.ok(["cors", "network", "aborted"].includes(refused.code), JSON.stringify(refused));
  assert.deepEqual(reached, []);
});

const frames = notInFirefox("a frame that is refused has no address there that Playwright could read");

test("no page can show it in a frame", frames, async (t) => {
  const server = await serve(DIST, { "content-security-policy": policy });
  t.after(server.close);
  const other = await serve(DIST);
  t.after(other.close);
  const page = await open(t, { servers: [server, other].map(({ url }) => new URL(url).origin) });
  await page.setContent(`<iframe src="${server.url}"></iframe>`);
  await page.waitForTimeout(500);
  const inside = await Promise.all(page.frames().slice(1).map((frame) => frame.title().catch(() => "")));
  assert.deepEqual(inside.filter((title) => /Fanlight/.test(title)), []);
  await page.setContent(`<iframe src="${other.url}"></iframe>`);
  await page.frameLocator("iframe").getByText("Fanlight").first().waitFor();
});
