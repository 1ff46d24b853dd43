// Tabs and workers that end in the middle: what another tab waited for is then done by that tab.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";

import { notInFirefox, open, withBrowser, withPackage } from "../support/helpers.mjs";
import { sha256, startHub } from "../support/hub-server.mjs";

withBrowser();

const WEIGHTS = "model.safetensors";

function checkpoint(bytes = 4_000_000) {
  const weights = randomBytes(bytes);
  const plan = [{ file: WEIGHTS, start: 0, end: bytes }];
  return { files: { "config.json": Buffer.from(JSON.stringify({ model_type: "qwen2_5_vl", plan })), [WEIGHTS]: weights }, digest: sha256(weights) };
}

const tab = (t, hub, options = {}) => open(t, { engine: "fake", servers: hub.servers, ...options });

const loading = (page, hub) =>
  withPackage(page, async ({ load }, { repo, endpoint }, caught) => {
    const loaded = await caught(load(repo, { endpoint, onProgress: ({ waiting }) => (globalThis.waits ||= waiting) }));
    return { ...loaded, digest: loaded.value?.info.digest, value: undefined };
  }, hub);

const bytes = (hub) => hub.served[WEIGHTS] ?? 0;
const until = async (so) => {
  while (!(await so())) await new Promise((resolve) => setTimeout(resolve, 10));
};

for (const [what, end] of [
  ["tab is closed", (page) => page.close()],
  ["worker is ended", (page) => page.evaluate(() => globalThis.workers.at(-1).terminate())],
]) {
  test(`two tabs load one model, and the one that downloads it ends: its ${what}`, async (t) => {
    const { files, digest } = checkpoint();
    const hub = await startHub(t, { files });
    hub.fault = () => ({ rate: 2 * 1024 });
    const first = await tab(t, hub);
    await first.evaluate(() => {
      const Native = Worker;
      globalThis.workers = [];
      globalThis.Worker = class extends Native { constructor(...args) { super(...args); globalThis.workers.push(this); } };
    });
    const second = await tab(t, hub, { beside: first });
    const one = loading(first, hub).catch(() => ({ code: "dead" }));
    await until(() => bytes(hub) > 700_000);
    const two = loading(second, hub);
    await until(() => second.evaluate(() => globalThis.waits === true));
    await end(first);
    assert.match((await one).code, /dead|internal/);
    hub.fault = undefined;
    const { digest: found, code, message } = await two;
    assert.equal(found, digest, `${code}: ${message}`);
    assert.ok(bytes(hub) < 1.6 * files[WEIGHTS].length, `${bytes(hub)} bytes were sent: what the first one had is kept`);
  });
}

const frozen = notInFirefox("only Chromium's DevTools protocol can freeze a page");

test("a tab that is frozen for a while goes on where it was, and its worker is not taken for stuck", frozen, async (t) => {
  const { files } = checkpoint(1000);
  const hub = await startHub(t, { files });
  const page = await tab(t, hub);
  const cdp = await page.context().newCDPSession(page);
  await withPackage(page, async ({ load }, { repo, endpoint }) => {
    const { watch } = await import("/src/page/link.js");
    watch.beatMs = 100;
    globalThis.model = await load(repo, { endpoint });
    globalThis.session = await globalThis.model.session();
    globalThis.answer = globalThis.session.prompt("Read").then(({ finishReason }) => finishReason, ({ code, message }) => `${code}: ${message}`);
  }, hub);
  await cdp.send("Page.setWebLifecycleState", { state: "frozen" });
  await new Promise((resolve) => setTimeout(resolve, 3000));
  await cdp.send("Page.setWebLifecycleState", { state: "active" });
  assert.equal(await page.evaluate(() => globalThis.answer), "stop");
  assert.equal(await page.evaluate(() => globalThis.session.prompt("Read").then(({ said }) => said.length)), 4, "the conversation is the same");
});
