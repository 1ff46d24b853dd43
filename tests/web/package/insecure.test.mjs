// A page that was loaded over plain http from another machine: a development server that is opened from a phone, an intranet. Browsers
// hide WebGPU, locks, private files and more from it.
// Only in Chromium: the name of the other machine is made by a flag of Chromium's.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { open, site, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser(["--host-resolver-rules=MAP intranet.test localhost"]);

const at = `http://intranet.test:${new URL(site()).port}/src/index.js`;

test("what needs a secure page says so and how to get one; a model on a server works", async (t) => {
  const event = (choices) => `data: ${JSON.stringify({ choices })}\n\n`;
  const server = createServer((request, response) => {
    const headers = { "access-control-allow-origin": "*", "access-control-allow-headers": "*", "content-type": "text/event-stream" };
    response.writeHead(200, headers).end(request.method === "OPTIONS" ? "" : event([{ index: 0, delta: { content: "Hi (28,28)" }, finish_reason: "stop" }]));
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  t.after(() => (server.close(), server.closeAllConnections()));
  const { port } = server.address();
  const page = await open(t, { at, servers: [`http://intranet.test:${port}`] });
  assert.equal(await page.evaluate(() => isSecureContext), false);
  const seen = await withPackage(page, async ({ load, estimate, availability, support, models, connect }, port, caught) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 40, height: 40 });
    canvas.getContext("2d").fillRect(0, 0, 9, 9);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve));
    const model = connect({ baseURL: `http://intranet.test:${port}/v1`, model: "qwen2_vl" });
    const session = await model.session();
    const content = [{ type: "image", image: blob }, { type: "text", text: "?" }];
    return {
      refused: [await caught(load("Org/Model")), await caught(load("/models/fake/")), await caught(estimate("Org/Model"))],
      availability: await caught(availability("Org/Model")),
      support: await support(),
      list: await models.list(),
      size: await models.size(),
      remote: await caught(session.prompt([{ role: "user", content }])),
    };
  }, port);
  for (const error of seen.refused) {
    assert.equal(error.name, "FanlightError", JSON.stringify(error));
    assert.equal(error.code, "webgpu_unavailable");
    assert.match(error.hint, /https/);
  }
  assert.equal(seen.availability.value, "unavailable", JSON.stringify(seen.availability));
  assert.equal(seen.support.webgpu, false);
  assert.deepEqual([seen.list, seen.size], [[], 0]);
  assert.equal(seen.remote.value?.text, "Hi (28,28)", JSON.stringify(seen.remote));
});
