// Servers as people have them: those that compress, that answer with a web page for what is not there, that let nobody know what is
// not there, that allow no other site, that are too slow or never end.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { gzipSync } from "node:zlib";

import { open, withBrowser, withPackage } from "../support/helpers.mjs";
import { sha256 } from "../support/hub-server.mjs";

withBrowser();

const OPEN = { "access-control-allow-origin": "*" };
const WEIGHTS = Buffer.alloc(700_000, "weights");
const PLAN = [{ file: "model.safetensors", start: 0, end: WEIGHTS.length }];
/** `probes`: files that the engine asks for and that need not be there. */
const FILES = {
  "config.json": Buffer.from(JSON.stringify({ model_type: "qwen2_5_vl", plan: PLAN, probes: ["chat_template.json", "model.safetensors.index.json"] })),
  "model.safetensors": WEIGHTS,
};

/** A server on another origin; `respond` answers, with the bytes of the file if there is one. */
async function serve(t, respond) {
  const requests = [];
  const server = createServer(async (request, response) => {
    requests.push(`${request.method} ${request.url}`);
    await respond(request, response, FILES[request.url.split("?")[0].split("/").at(-1)]);
  });
  server.listen(0, "localhost");
  await once(server, "listening");
  t.after(() => (server.close(), server.closeAllConnections()));
  return { requests, origin: `http://localhost:${server.address().port}` };
}

/** Answers as a plain server does, with ranges. */
function plainly(request, response, bytes, headers = {}) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
  const [start, end] = first === undefined ? [0, bytes.length] : [Number(first), last ? Math.min(Number(last) + 1, bytes.length) : bytes.length];
  const range = first === undefined ? {} : { "content-range": `bytes ${start}-${end - 1}/${bytes.length}` };
  response.writeHead(first === undefined ? 200 : 206, { ...OPEN, ...headers, ...range, "content-length": end - start, etag: '"1"' });
  response.end(request.method === "HEAD" ? undefined : bytes.subarray(start, end));
}

const none = (response, status = 404) => response.writeHead(status, OPEN).end();

/** What came of `load(ADDRESS)` in an empty page. */
async function loading(t, { origin }, path = "/model/", options = {}, before = "") {
  const page = await open(t, { path: "src/index.js", engine: "fake", servers: [origin], before });
  return withPackage(page, async ({ load }, [url, options], caught) => {
    const begin = performance.now();
    const loaded = await caught(load(url, { cache: "none", ...options }));
    loaded.value?.destroy();
    return { ...loaded, digest: loaded.value?.info.digest, value: undefined, ms: performance.now() - begin };
  }, [origin + path, options]);
}

test("a server of another origin that compresses and hides its headers", async (t) => {
  const server = await serve(t, (request, response, bytes) => {
    if (!bytes) return none(response);
    // As nginx does with `gzip on`: not with ranges or for those who want the file as it is, and without a length.
    const zips = /gzip/.test(request.headers["accept-encoding"] ?? "") && !request.headers.range && /json/.test(request.url);
    if (!zips) return plainly(request, response, bytes);
    response.writeHead(200, { ...OPEN, "content-encoding": "gzip" });
    response.end(request.method === "HEAD" ? undefined : gzipSync(bytes));
  });
  const { digest, message } = await loading(t, server);
  assert.equal(digest, sha256(WEIGHTS), message);
});

test("a development server that answers every address with its page, unless a file is asked for", async (t) => {
  const server = await serve(t, (request, response, bytes) => {
    if (bytes) return plainly(request, response, bytes);
    // Vite does this for whoever accepts HTML or anything.
    if (!/html|\*\/\*/.test(request.headers.accept ?? "*/*")) return none(response);
    response.writeHead(200, { ...OPEN, "content-type": "text/html" }).end("<!doctype html>");
  });
  const { digest, message } = await loading(t, server);
  assert.equal(digest, sha256(WEIGHTS), message);
});

for (const [what, answer] of [
  ["a host that answers every address with its page", (response) => response.writeHead(200, { ...OPEN, "content-type": "text/html; charset=utf-8" }).end("<!doctype html>")],
  ["a host that says 403 for what is not there", (response) => none(response, 403)],
]) {
  test(`${what}: files that need not be there are not there`, async (t) => {
    const server = await serve(t, (request, response, bytes) => (bytes ? plainly(request, response, bytes) : answer(response)));
    const { digest, message } = await loading(t, server);
    assert.equal(digest, sha256(WEIGHTS), message);
    const wrong = await loading(t, await serve(t, (_, response) => answer(response)));
    assert.ok(["network", "auth"].includes(wrong.code), `a file that must be there is still missed: ${wrong.code}`);
    assert.match(wrong.message, /config\.json/);
  });
}

test("a server that allows no other site is asked twice and not six times", async (t) => {
  const server = await serve(t, (_, response) => response.writeHead(200).end("{}"));
  const { code, retryable, message, ms } = await loading(t, server);
  assert.deepEqual([code, retryable], ["cors", false], message);
  assert.ok(server.requests.length <= 4, server.requests.join(", "));
  assert.ok(ms < 10_000, `${ms} ms`);
});

test("a server that sends a byte now and then is given up", async (t) => {
  const server = await serve(t, async (request, response, bytes) => {
    if (!bytes) return none(response);
    if (!request.url.includes("safetensors")) return plainly(request, response, bytes);
    response.writeHead(200, { ...OPEN, "content-length": bytes.length });
    for (let at = 0; at < bytes.length && !response.destroyed; at++) {
      response.write(bytes.subarray(at, at + 1));
      await pause(100);
    }
  });
  // The pauses between attempts are cut short.
  const hurry = "const own = setTimeout; globalThis.setTimeout = (work, ms, ...rest) => own(work, ms > 260 ? 10 : ms, ...rest);";
  const { code, message } = await loading(t, server, "/model/", { timeoutMs: 250 }, hurry);
  assert.equal(code, "network");
  assert.match(message, /sent only \d+ bytes in/);
});

test("a list of files that never ends is not read to its end", async (t) => {
  let sent = 0;
  const server = await serve(t, async (_, response) => {
    response.writeHead(200, OPEN);
    const piece = Buffer.alloc(1 << 20, " ");
    while (!response.destroyed) {
      sent += piece.length;
      if (!response.write(piece)) await Promise.race([once(response, "drain"), once(response, "close")]);
    }
  });
  const page = await open(t, { path: "src/index.js", engine: "fake", servers: [server.origin] });
  const { code, message } = await withPackage(page, ({ load }, endpoint, caught) => caught(load("Org/Model", { endpoint })), server.origin);
  assert.equal(code, "network", message);
  assert.match(message, /more than the 16777216 bytes/);
  assert.ok(sent < 128 << 20, `${sent} bytes were sent`);
});

test("messages do not repeat the signature or the password of an address", async (t) => {
  const server = await serve(t, (_, response) => none(response, 400));
  const page = await open(t, { path: "src/index.js", engine: "fake", servers: [server.origin] });
  const errors = await withPackage(page, async ({ load, connect }, origin, caught) => {
    const query = "?X-Amz-Signature=secret&key=secret#secret";
    const session = await connect({ baseURL: `${origin}/v1?key=secret`, model: "m" }).session();
    const ask = (part) => caught(session.prompt([{ role: "user", content: [part] }]));
    return Promise.all([
      caught(load({ "config.json": `${origin}/config.json${query}` }, { timeoutMs: 300 })),
      ask({ type: "image", image: `${origin}/picture.png${query}` }),
      ask({ type: "text", text: "Hello" }),
    ]);
  }, server.origin);
  assert.deepEqual(errors.map(({ code }) => code), ["network", "network", "bad_request"]);
  for (const { message, hint } of errors) {
    assert.doesNotMatch(message + hint, /secret/);
  }
});
