// `connect`: a model on a server, played by a small one here that sends its events cut in every way.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";

import { open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

const CORS = { "access-control-allow-origin": "*", "access-control-allow-headers": "authorization, content-type, x-mine" };
const MODEL = "Qwen/Qwen2.5-VL-7B-Instruct";

/** Answers with `respond(body, response, request)`, and keeps what it was asked. */
async function serve(t, respond, cors = CORS) {
  const seen = [];
  const server = createServer(async (request, response) => {
    for (const [name, value] of Object.entries(cors)) response.setHeader(name, value);
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    let text = "";
    for await (const piece of request) text += piece;
    const body = JSON.parse(text);
    seen.push({ url: request.url, headers: request.headers, body });
    await respond(body, response, request);
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  t.after(() => (server.close(), server.closeAllConnections()));
  return { seen, origin: `http://localhost:${server.address().port}` };
}

const chunk = (delta, finish_reason = null, more = {}) => ({
  id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m",
  choices: [{ index: 0, delta, finish_reason, logprobs: null }], ...more,
});
const usage = { prompt_tokens: 30, completion_tokens: 4, total_tokens: 34, prompt_tokens_details: { cached_tokens: 8 } };
const TEXT = "Grüße – 你好 👋";
const EVENTS = [
  ": a comment",
  "event: message\ndata: " + JSON.stringify(chunk({ role: "assistant", content: "" })),
  // One event over two lines of data.
  "data: " + JSON.stringify(chunk({ content: TEXT })).replace(',"created"', ',\ndata: "created"'),
  "id: 7\ndata:" + JSON.stringify(chunk({ content: "!" })),
  "data: " + JSON.stringify(chunk({}, "stop")),
  "data: " + JSON.stringify({ ...chunk({}), choices: [], usage }),
  "data: [DONE]",
];

/** An empty page that came over a socket: others may not ask this machine for anything. */
const page = (t, { origin }) => open(t, { path: "src/index.js", servers: [origin], engine: "fake" });
const run = (page, { origin }, body, more) =>
  withPackage(
    page,
    `async ({ connect, FanlightError }, [options, argument], caught) => {
      const model = connect(options);
      const all = async (stream) => { const list = []; for await (const item of stream) list.push(item); return list; };
      return (${body})({ model, caught, all, FanlightError }, argument);
    }`,
    [{ baseURL: `${origin}/v1`, model: MODEL, ...more }, more?.argument],
  );

for (const [how, end, size] of [["one byte at a time", "\n", 1], ["with returns, seven bytes at a time", "\r\n", 7], ["with bare returns, all at once", "\r", 1 << 20]]) {
  test(`events are read ${how}`, async (t) => {
    const bytes = Buffer.from(EVENTS.map((event) => event.replaceAll("\n", end) + end + end).join(""));
    const server = await serve(t, async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (let at = 0; at < bytes.length; at += size) {
        response.write(bytes.subarray(at, at + size));
        if (at % 50 < size) await pause(1);
      }
      response.end();
    });
    const seen = await run(await page(t, server), server, async ({ model, all }) => {
      const session = await model.session({ messages: [{ role: "system", content: "Be brief." }] });
      const stream = session.promptStreaming("Hello", { maxTokens: 9, temperature: 0, topK: 5, stop: ["x"], seed: 3 });
      const deltas = await all(stream);
      const result = await stream.result;
      const again = await session.prompt("Again");
      const chunks = await all(await model.chat.completions.create({ messages: [{ role: "user", content: "?" }], stream: true }));
      return { deltas, result, again, chunks };
    });
    assert.equal(seen.deltas.map(({ text }) => text).join(""), `${TEXT}!`);
    assert.equal(seen.result.text, `${TEXT}!`);
    assert.equal(seen.result.finishReason, "stop");
    assert.deepEqual(seen.result.usage, { promptTokens: 30, imageTokens: 0, videoTokens: 0, completionTokens: 4, cachedTokens: 8 });
    assert.equal(seen.chunks.length, 5);
    const [first, second] = server.seen.map(({ body }) => body);
    assert.equal(server.seen[0].url, "/v1/chat/completions");
    assert.deepEqual(first, {
      max_tokens: 9, temperature: 0, top_k: 5, seed: 3, stop: ["x"], model: MODEL, stream: true, stream_options: { include_usage: true },
      messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Hello" }],
    });
    assert.deepEqual(second.messages.slice(2), [{ role: "assistant", content: `${TEXT}!` }, { role: "user", content: "Again" }]);
  });
}

test("an answer that is not streamed, headers, pictures as data URLs", async (t) => {
  const answer = { id: "c", object: "chat.completion", created: 1, model: "m", usage, choices: [{ index: 0, finish_reason: "stop", logprobs: null, message: { role: "assistant", content: "Hi", refusal: null } }] };
  const server = await serve(t, (_, response) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer)));
  const seen = await run(
    await page(t, server),
    server,
    async ({ model }) => {
      const canvas = Object.assign(document.createElement("canvas"), { width: 300, height: 200 });
      canvas.getContext("2d").fillRect(0, 0, 9, 9);
      const blob = await new Promise((resolve) => canvas.toBlob(resolve));
      const parts = [
        { type: "image_url", image_url: { url: "https://example.com/a.png", detail: "low" } },
        { type: "image_url", image_url: { url: blob } },
        { type: "image", image: canvas },
        { type: "text", text: "?" },
      ];
      return model.chat.completions.create({ messages: [{ role: "user", content: parts }], user: "me" });
    },
    { apiKey: "secret", headers: { "x-mine": "1" } },
  );
  assert.deepEqual(seen, answer);
  const [{ headers, body }] = server.seen;
  assert.equal(headers.authorization, "Bearer secret");
  assert.equal(headers["x-mine"], "1");
  assert.equal(headers.referer, undefined);
  const [{ content }] = body.messages;
  assert.deepEqual(content[0], { type: "image_url", image_url: { url: "https://example.com/a.png", detail: "low" } });
  for (const { type, image_url } of content.slice(1, 3)) {
    assert.equal(type, "image_url");
    assert.equal(Buffer.from(image_url.url.split("base64,")[1], "base64").readUInt32BE(16), 300);
  }
  assert.equal(body.user, "me");
});

test("calls come in fragments and are fed back; logprobs and thoughts arrive", async (t) => {
  const call = (index, more) => chunk({ tool_calls: [{ index, ...more }] });
  const logprobs = { content: [{ token: "Hi", bytes: null, logprob: -0.5, top_logprobs: [{ token: "Hi", bytes: [72, 105], logprob: -0.5 }] }], refusal: null };
  const pieces = [
    chunk({ role: "assistant", content: null, reasoning: "Hm." }),
    { ...chunk({}), choices: [{ index: 0, delta: { content: "Hi" }, finish_reason: null, logprobs }] },
    call(0, { id: "a", type: "function", function: { name: "look", arguments: "" } }),
    call(0, { function: { arguments: '{"pla' } }),
    call(0, { function: { arguments: 'ce": "door"}' } }),
    call(1, { id: "b", type: "function", function: { name: "look", arguments: "{}" } }),
    chunk({}, "tool_calls"),
  ];
  const server = await serve(t, (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(pieces.map((piece) => `data: ${JSON.stringify(piece)}\n\n`).join(""));
  });
  const tools = [{ type: "function", function: { name: "look", parameters: { type: "object" } } }];
  const seen = await run(
    await page(t, server),
    server,
    async ({ model, all }, tools) => {
      const session = await model.session({ tools });
      const stream = session.promptStreaming("What is at the door?", { toolChoice: "required", logprobs: 1 });
      const deltas = await all(stream);
      await session.prompt([{ role: "tool", toolCallId: "a", content: "open" }, { role: "tool", toolCallId: "b", content: "shut" }]);
      return { deltas, result: await stream.result };
    },
    { argument: tools },
  );
  const calls = [
    { id: "a", name: "look", arguments: { place: "door" }, argumentsText: '{"place": "door"}' },
    { id: "b", name: "look", arguments: {}, argumentsText: "{}" },
  ];
  assert.deepEqual(seen.result.toolCalls, calls);
  assert.equal(seen.result.finishReason, "tool_calls");
  assert.equal(seen.result.reasoning, "Hm.");
  assert.deepEqual(seen.result.logprobs, [{ id: -1, token: "Hi", bytes: [72, 105], logprob: -0.5, top: [{ id: -1, token: "Hi", bytes: [72, 105], logprob: -0.5 }] }]);
  assert.deepEqual(seen.deltas.flatMap(({ toolCall }) => toolCall ?? []), calls);
  const [first, second] = server.seen.map(({ body }) => body);
  assert.deepEqual([first.tools, first.tool_choice, first.logprobs, first.top_logprobs], [tools, "required", true, 1]);
  assert.deepEqual(second.messages.slice(1), [
    {
      role: "assistant", content: "Hi", reasoning_content: "Hm.",
      tool_calls: [
        { id: "a", type: "function", function: { name: "look", arguments: '{"place": "door"}' } },
        { id: "b", type: "function", function: { name: "look", arguments: "{}" } },
      ],
    },
    { role: "tool", content: "open", tool_call_id: "a" },
    { role: "tool", content: "shut", tool_call_id: "b" },
  ]);
});

test("what a server refuses is a typed error with the server's words", async (t) => {
  const said = (message) => JSON.stringify({ error: { message, type: "x" } });
  const cases = [
    [401, said("no such key"), "auth", false],
    [403, "{}", "auth", false],
    [404, said("no such model"), "not_found", false],
    [400, said("temperature is too hot"), "bad_request", false],
    [422, JSON.stringify({ detail: "top_k is not known" }), "bad_request", false],
    [400, JSON.stringify({ message: "This model's maximum context length is 4096 tokens" }), "context_full", false],
    [429, said("slower"), "network", true],
    [503, "<html>busy</html>", "network", true],
    [200, "<!doctype html>", "network", false],
    [200, "{}", "network", false],
  ];
  const server = await serve(t, (body, response) => {
    const [status, text] = cases[body.seed];
    response.writeHead(status).end(text);
  });
  const errors = await run(await page(t, server), server, async ({ model, caught }, count) => {
    const errors = [];
    for (let seed = 0; seed < count; seed++) errors.push(await caught(model.chat.completions.create({ messages: [{ role: "user", content: "?" }], seed })));
    return errors;
  }, { argument: cases.length });
  for (const [i, [status, text, code, retryable]] of cases.entries()) {
    assert.deepEqual([errors[i].name, errors[i].code, errors[i].retryable], ["FanlightError", code, retryable], `${status} ${text}`);
  }
  assert.match(errors[0].message, /401: no such key/);
  assert.match(errors[4].message, /top_k is not known/);
});

test("a server that says no to this page, is not there, breaks off, or has a fault in the middle", async (t) => {
  const events = {
    cut: [chunk({ content: "Hal" })],
    fault: [chunk({ content: "Hal" }), { error: { message: "out of memory" } }],
    odd: ["not json"],
  };
  const server = await serve(t, ({ user }, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(events[user].map((event) => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`).join(""));
  });
  const closed = await serve(t, (_, response) => response.end("{}"), {});
  const seen = await open(t, { path: "src/index.js", servers: [server.origin, closed.origin, "http://localhost:1"] }).then((page) =>
    withPackage(
      page,
      async ({ connect }, [origin, closed], caught) => {
        const ask = async (origin, user) => {
          const model = connect({ baseURL: origin, model: "m" });
          const stream = await model.chat.completions.create({ messages: [{ role: "user", content: "?" }], stream: true, user });
          const texts = [];
          try {
            for await (const { choices } of stream) texts.push(choices[0].delta.content);
          } catch (error) {
            throw Object.assign(error, { message: `${texts.join()} ${error.message}` });
          }
        };
        const bad = [];
        for (const options of [{ baseURL: "ftp://x", model: "m" }, { baseURL: "http://[", model: "m" }]) {
          bad.push(await caught((async () => connect(options))()));
        }
        return {
          cut: await caught(ask(origin, "cut")), fault: await caught(ask(origin, "fault")), odd: await caught(ask(origin, "odd")),
          closed: await caught(ask(closed, "cut")), gone: await caught(ask("http://localhost:1", "cut")), bad,
        };
      },
      [server.origin, closed.origin],
    ),
  );
  assert.deepEqual([seen.cut.code, seen.cut.retryable], ["network", true]);
  assert.match(seen.cut.message, /^Hal .*stopped sending/);
  assert.match(seen.fault.message, /^Hal .*out of memory/);
  assert.match(seen.odd.message, /not JSON/);
  assert.deepEqual([seen.closed.code, seen.gone.code], ["cors", "cors"]);
  assert.match(seen.closed.hint, /Access-Control-Allow-Origin/);
  assert.deepEqual(seen.bad.map(({ code }) => code), ["bad_request", "bad_request"]);
});

test("an abort, leaving the loop and destroy end the request at the server", async (t) => {
  let closed = 0;
  const server = await serve(t, async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.on("close", () => closed++);
    while (!response.destroyed) {
      response.write(`data: ${JSON.stringify(chunk({ content: "word " }))}\n\n`);
      await pause(5);
    }
  });
  const seen = await run(await page(t, server), server, async ({ model, caught }) => {
    const session = await model.session();
    const stop = new AbortController();
    const stream = session.promptStreaming("?", { signal: stop.signal });
    let pieces = 0;
    for await (const _ of stream) if (++pieces === 3) stop.abort();
    const first = await stream.result;
    const left = session.promptStreaming("?");
    for await (const _ of left) break;
    const second = await left.result;
    const chunks = await model.chat.completions.create({ messages: [{ role: "user", content: "?" }], stream: true });
    for await (const _ of chunks) break;
    const running = session.promptStreaming("?");
    await running[Symbol.asyncIterator]().next();
    model.destroy();
    return { first, second, third: await caught(running.result), after: await caught(session.prompt("?")), create: await caught(model.chat.completions.create({ messages: [{ role: "user", content: "?" }] })) };
  });
  assert.deepEqual([seen.first.finishReason, seen.second.finishReason], ["abort", "abort"]);
  assert.match(seen.first.text, /^word word word /);
  assert.deepEqual([seen.third.code, seen.after.code, seen.create.code], ["aborted", "aborted", "aborted"]);
  while (closed < 4) await pause(5);
});

test("a server's boxes are in the caller's pixels, by the rule of its family", async (t) => {
  const boxes = '```json\n[{"bbox_2d": [100, 50, 200, 100], "label": "button"}]\n```';
  const html = '```html\n<p data-bbox="0 0 100 50">a</p>\n```';
  const server = await serve(t, ({ messages }, response) => {
    const text = /html/i.test(JSON.stringify(messages.at(-1))) ? html : boxes;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end([chunk({ content: text }), chunk({}, "stop")].map((piece) => `data: ${JSON.stringify(piece)}\n\n`).join("") + "data: [DONE]\n\n");
  });
  const page = await open(t, { path: "src/index.js", servers: [server.origin] });
  page.setDefaultTimeout(0);
  const seen = await withPackage(
    page,
    async ({ connect }, baseURL, caught) => {
      const picture = Object.assign(document.createElement("canvas"), { width: 1000, height: 500 });
      picture.getContext("2d").fillRect(0, 0, 9, 9);
      const of = async (model, options = {}) => {
        const remote = connect({ baseURL, model, ...options });
        try {
          return await remote.detect(picture, "button");
        } finally {
          remote.destroy();
        }
      };
      const page = connect({ baseURL, model: "qwen2.5vl:7b" });
      return {
        newer: await of("qwen3-vl-plus"),
        older: await of("qwen2.5vl:7b"),
        limited: await of("any", { modelType: "qwen2_5_vl", maxPixels: 28 * 28 * 128 }),
        unknown: await caught(of("gpt-9")),
        page: await page.parseDocument(picture),
      };
    },
    server.origin,
  );
  assert.deepEqual(seen.newer, [{ label: "button", box: [100, 25, 200, 50] }]);
  // 1000 × 500 is seen as 1008 × 504 (smart_resize: the nearest multiples of 28).
  const close = (found, expected) => found.forEach((value, i) => assert.ok(Math.abs(value - expected[i]) < 1e-9, `${found} for ${expected}`));
  close(seen.older[0].box, [100, 50, 200, 100].map((value) => (value * 1000) / 1008));
  // At most 128 squares: 448 × 224.
  close(seen.limited[0].box, [100, 50, 200, 100].map((value) => (value * 1000) / 448));
  assert.equal(seen.unknown.code, "unsupported");
  assert.equal(seen.page.blocks[0].text, "a");
  close(seen.page.blocks[0].box, [0, 0, 100, 50].map((value) => (value * 1000) / 1008));
});

/** Answers with these events, or with this status and body. */
const says = (t, pieces) =>
  serve(t, (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.end(pieces.map((piece) => `data: ${typeof piece === "string" ? piece : JSON.stringify(piece)}\n\n`).join(""));
  });

for (const [what, index] of [["a name", "__proto__"], ["a huge number", 4294967294], ["a fraction", 0.5], ["a negative number", -1], ["nothing", undefined]]) {
  test(`a server that numbers a call with ${what} changes nothing in the page`, async (t) => {
    const server = await says(t, [chunk({ tool_calls: [{ index, id: "pwned", function: { name: "pwned", arguments: "{}" } }] }), chunk({}, "tool_calls"), "[DONE]"]);
    const seen = await run(await page(t, server), server, async ({ model, caught }) => {
      const outcome = await caught((await model.session()).prompt("Hello"));
      const keys = [];
      for (const key in []) keys.push(key);
      return { ...outcome, keys, own: [].name };
    });
    assert.equal(seen.code, "network", JSON.stringify(seen.value));
    assert.match(seen.message, /numbered a tool call/);
    assert.deepEqual(seen.keys, []);
    assert.equal(seen.own, undefined);
  });
}

for (const [what, pieces] of [
  ["choices of null", [{ ...chunk({}), choices: [null] }]],
  ["choices that are no list", [{ ...chunk({}), choices: { 0: {} } }]],
  ["arguments that are no object", [chunk({ tool_calls: [{ index: 0, id: "a", function: { name: "f", arguments: "[1]" } }] }), chunk({}, "tool_calls")]],
]) {
  test(`a server that sends ${what} is refused with a code`, async (t) => {
    const server = await says(t, pieces);
    const seen = await run(await page(t, server), server, async ({ model, caught }) => caught((await model.session()).prompt("Hello")));
    assert.equal(seen.code, "network");
    assert.doesNotMatch(seen.message, /destructure|undefined|not a function/);
  });
}

test("fields of another type than they should have are passed over", async (t) => {
  const odd = { choices: [{ index: 0, delta: { content: { a: 1 }, reasoning_content: 7, tool_calls: [null] }, logprobs: { content: [null, 3] }, finish_reason: null }] };
  const server = await says(t, [{ ...chunk({}), ...odd }, chunk({ content: "Hi" }), { ...chunk({}, "stop"), usage: { prompt_tokens: "many", completion_tokens: null } }, "[DONE]"]);
  const seen = await run(await page(t, server), server, async ({ model }) => (await model.session()).prompt("Hello"));
  assert.equal(seen.text, "Hi");
  assert.equal(seen.finishReason, "stop");
  assert.equal(seen.usage.promptTokens, 0);
});

test("numbers in arguments stay as the server wrote them", async (t) => {
  const text = '{"id": 2512292042121000001}';
  const server = await says(t, [chunk({ tool_calls: [{ index: 0, id: "a", function: { name: "f", arguments: text } }] }), chunk({}, "tool_calls"), "[DONE]"]);
  const seen = await run(await page(t, server), server, async ({ model }) => {
    const session = await model.session();
    const { toolCalls } = await session.prompt("Hello");
    await session.prompt([{ role: "tool", content: "42", toolCallId: "a" }]);
    return toolCalls;
  });
  assert.equal(seen[0].argumentsText, text);
  assert.equal(server.seen[1].body.messages[1].tool_calls[0].function.arguments, text);
});

test("a redirect is not followed: neither headers nor pictures reach another server", async (t) => {
  const other = await serve(t, (_, response) => response.end("{}"));
  const server = await serve(t, (_, response) => response.writeHead(307, { location: `${other.origin}/v1/chat/completions` }).end());
  const seen = await run(await page(t, server), server, async ({ model, caught }) => caught((await model.session()).prompt("Hello")), { headers: { "x-mine": "secret" } });
  assert.equal(seen.code, "network");
  assert.match(seen.message, /redirect/);
  assert.deepEqual(other.seen, []);
});

test("an answer without an end is not read for ever", async (t) => {
  const server = await serve(t, async (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const piece = `data: ${"x".repeat(1 << 20)}`;
    while (!response.destroyed) if (!response.write(piece)) await Promise.race([new Promise((go) => response.once("drain", go)), new Promise((go) => response.once("close", go))]);
  });
  const seen = await run(await page(t, server), server, async ({ model, caught }) => caught((await model.session()).prompt("Hello")));
  assert.equal(seen.code, "network");
  assert.match(seen.message, /more than 64 MiB/);
});
