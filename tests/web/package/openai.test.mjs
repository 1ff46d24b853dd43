// `chat.completions`: OpenAI's requests mean what they say, and its own client's parser reads what comes back.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { ChatCompletionStream } from "openai/lib/ChatCompletionStream";
import { Stream } from "openai/streaming";

import { fakeModel as fake, MODEL } from "../support/fake-model.mjs";
import { open, withBrowser, withPackage } from "../support/helpers.mjs";

withBrowser();

/** Runs `body` with `create` of a loaded model, `say(text)` for a user's message, `asked` (what the engine was given) and `picture()`. */
const withChat = (page, body, argument) =>
  withPackage(
    page,
    `async (fanlight, [url, argument], caught) => {
      const model = await fanlight.load(url);
      const create = model.chat.completions.create;
      const asked = [];
      new BroadcastChannel("asked").onmessage = ({ data }) => asked.push(data);
      const say = (content) => ({ role: "user", content });
      const picture = (width = 30, height = 20) => {
        const canvas = Object.assign(document.createElement("canvas"), { width, height });
        canvas.getContext("2d").fillRect(0, 0, 9, 9);
        return canvas;
      };
      const all = async (stream) => {
        const chunks = [];
        for await (const chunk of stream) chunks.push(chunk);
        return chunks;
      };
      const heard = async (count) => {
        while (asked.length < count) await new Promise((resolve) => setTimeout(resolve, 5));
        return asked;
      };
      return (${body})({ model, create, asked, say, picture, all, heard, caught }, argument);
    }`,
    [MODEL, argument],
  );

const TOOL = { type: "function", function: { name: "look", parameters: { type: "object", properties: { number: { type: "integer" } } } } };

test("types: requests of the client are requests here, and answers are the client's", async () => {
  const tsc = fileURLToPath(new URL("../../../www/node_modules/typescript/bin/tsc", import.meta.url));
  const project = fileURLToPath(new URL("types", import.meta.url));
  // The exact types of the package's own settings, and those of a page that is less strict.
  for (const exact of ["true", "false"]) {
    const args = [tsc, "--project", project, "--exactOptionalPropertyTypes", exact];
    await promisify(execFile)(process.execPath, args).catch(({ stdout }) => assert.fail(stdout));
  }
});

test("an answer has the shape that the client expects, all at once and in pieces", async (t) => {
  const page = await fake(t);
  const seen = await withChat(page, async ({ create, say, all }) => {
    const request = { model: "anything", messages: [{ role: "system", content: "Be brief." }, say("think, what is it?")], seed: 7 };
    const whole = await create(request);
    const chunks = await all(await create({ ...request, stream: true, stream_options: { include_usage: true } }));
    return { whole, chunks, bare: await all(await create({ ...request, stream: true })) };
  });
  const { whole, chunks, bare } = seen;
  assert.match(whole.id, /^chatcmpl-[0-9a-f]{32}$/);
  assert.equal(whole.object, "chat.completion");
  assert.ok(Math.abs(whole.created - Date.now() / 1000) < 3600);
  assert.equal(whole.model, "anything");
  assert.match(whole.system_fingerprint, /^fp_/);
  const text = "Delete account (0 pictures, 0 videos, <b>2</b> messages)";
  assert.deepEqual(whole.choices, [
    {
      index: 0,
      message: { role: "assistant", content: text, refusal: null, reasoning_content: "Let me see." },
      finish_reason: "stop",
      logprobs: null,
    },
  ]);
  const { usage } = whole;
  assert.ok(usage.prompt_tokens > 0 && usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  assert.deepEqual(Object.keys(usage.prompt_tokens_details), ["cached_tokens", "image_tokens", "video_tokens"]);

  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, usage.completion_tokens);
  assert.equal(last.usage.prompt_tokens_details.cached_tokens, 60, "the same prompt again");
  assert.deepEqual(chunks[0].choices[0].delta, { role: "assistant", content: "", refusal: null });
  for (const chunk of chunks) {
    assert.equal(chunk.id, chunks[0].id);
    assert.equal(chunk.object, "chat.completion.chunk");
    assert.equal(chunk.usage, null);
    assert.equal(chunk.choices.length, 1);
  }
  assert.deepEqual(chunks.map(({ choices }) => choices[0].finish_reason).filter(Boolean), ["stop"]);
  assert.deepEqual([chunks.at(-1).choices[0].finish_reason, chunks.at(-1).choices[0].delta], ["stop", {}]);
  assert.equal(chunks.map(({ choices }) => choices[0].delta.content ?? "").join(""), text);
  assert.equal(chunks.map(({ choices }) => choices[0].delta.reasoning_content ?? "").join(""), "Let me see.");
  assert.notEqual(chunks[0].id, whole.id);
  assert.ok(bare.every((chunk) => !("usage" in chunk)) && bare.at(-1).choices.length === 1, "usage comes where it is asked for");
});

test("the client's own parser puts the stream together: text, calls, logprobs, several answers, usage", async (t) => {
  const page = await fake(t);
  const lines = await withChat(
    page,
    async ({ create, say }, TOOL) => {
      const text = async (request) =>
        new Response((await create({ ...request, stream: true, stream_options: { include_usage: true } })).toReadableStream()).text();
      return {
        plain: await text({ messages: [say("What is it?")], logprobs: true, top_logprobs: 2, n: 2 }),
        calls: await text({ messages: [say("call twice")], tools: [TOOL] }),
        whole: await create({ messages: [say("What is it?")], logprobs: true, top_logprobs: 2, n: 2 }),
        wholeCalls: await create({ messages: [say("call twice")], tools: [TOOL] }),
      };
    },
    TOOL,
  );
  const parsed = async (text) => {
    const stream = ChatCompletionStream.fromReadableStream(new Response(text).body);
    const events = [];
    for (const name of ["content.done", "tool_calls.function.arguments.done", "logprobs.content.done"]) {
      stream.on(name, (event) => events.push([name, event]));
    }
    return { completion: await stream.finalChatCompletion(), events };
  };
  const plain = await parsed(lines.plain);
  // The parser adds `parsed` to what was said; usage differs in what was there already.
  const own = ({ model, choices }) => ({ model, choices: choices.map(({ message: { parsed: _, ...message }, ...rest }) => ({ ...rest, message })) });
  assert.deepEqual(own(plain.completion), own(lines.whole));
  assert.equal(plain.completion.choices.length, 2);
  assert.equal(plain.completion.usage.completion_tokens, lines.whole.usage.completion_tokens);
  const { content } = plain.completion.choices[0].logprobs;
  assert.equal(content.map(({ token }) => token).join(""), plain.completion.choices[0].message.content);
  assert.deepEqual(content[1].top_logprobs.map(({ token }) => token), ["t0", "t1"]);
  assert.deepEqual(content[1].bytes, [...Buffer.from(content[1].token)]);
  assert.ok(plain.events.some(([name]) => name === "content.done") && plain.events.some(([name]) => name === "logprobs.content.done"));

  const calls = await parsed(lines.calls);
  const [{ message, finish_reason }] = calls.completion.choices;
  assert.equal(finish_reason, "tool_calls");
  assert.equal(message.content, null);
  assert.deepEqual(
    message.tool_calls.map(({ id, type, function: { name, arguments: args } }) => [id, type, name, args]),
    [["call_0", "function", "look", '{"number":0}'], ["call_1", "function", "look", '{"number":1}']],
  );
  assert.deepEqual(lines.wholeCalls.choices[0].message.tool_calls.map((call) => call.function.arguments), ['{"number":0}', '{"number":1}']);
  assert.equal(lines.wholeCalls.choices[0].message.content, null);
  assert.equal(calls.events.filter(([name]) => name.startsWith("tool_calls")).length, 2);

  // The plain stream of the client reads the same lines.
  const chunks = [];
  for await (const chunk of Stream.fromReadableStream(new Response(lines.calls).body, new AbortController())) chunks.push(chunk);
  assert.equal(chunks.length, lines.calls.trim().split("\n").length);
});

test("every field arrives as the engine's own option", async (t) => {
  const page = await fake(t);
  const asked = await withChat(
    page,
    async ({ create, say, heard }, TOOL) => {
      const messages = [say("What is it?")];
      const schema = { type: "object", properties: { a: { type: "integer" } } };
      await create({
        messages,
        max_completion_tokens: 5,
        temperature: 0.5,
        top_p: 0.9,
        top_k: 20,
        min_p: 0.1,
        repetition_penalty: 1.1,
        presence_penalty: -1,
        frequency_penalty: 2,
        seed: 42,
        stop: ["a", "b"],
        logprobs: true,
        logit_bias: { 7: -100, 8: 1.5 },
        response_format: { type: "json_schema", json_schema: { name: "thing", strict: true, schema } },
        tools: [TOOL],
        tool_choice: { type: "function", function: { name: "look" } },
        n: 2,
        user: "me",
        metadata: { a: "b" },
        store: false,
      });
      await create({ messages, max_tokens: 3, stop: "x", response_format: { type: "json_object" }, tool_choice: "none", top_k: -1 });
      await create({ messages, response_format: { type: "text" }, temperature: null, tools: [TOOL], tool_choice: "required" });
      return heard(4);
    },
    TOOL,
  );
  const [first, second, third, fourth] = asked.map(({ options }) => options);
  const all = {
    replace: true,
    maxTokens: 5,
    temperature: 0.5,
    topP: 0.9,
    topK: 20,
    minP: 0.1,
    repetitionPenalty: 1.1,
    presencePenalty: -1,
    frequencyPenalty: 2,
    seed: 42,
    stop: ["a", "b"],
    logprobs: 0,
    logitBias: { 7: -100, 8: 1.5 },
    responseConstraint: { jsonSchema: { type: "object", properties: { a: { type: "integer" } } } },
    toolChoice: TOOL.function && { type: "function", function: { name: "look" } },
  };
  assert.deepEqual(first, all);
  assert.deepEqual(second, { ...all, seed: 43 }, "the second answer has the next seed");
  assert.deepEqual(asked[0].tools, [TOOL]);
  const { seed, ...rest } = third;
  assert.deepEqual(rest, { replace: true, maxTokens: 3, stop: ["x"], topK: 0, toolChoice: "none", responseConstraint: { jsonSchema: { type: "object" } } });
  assert.ok(Number.isInteger(seed) && seed >= 0);
  assert.notEqual(fourth.seed, seed, "without a seed each answer has another one");
  assert.deepEqual(fourth, { replace: true, toolChoice: "required", seed: fourth.seed });
  assert.deepEqual(asked.map(({ session, tools }) => [session, tools.length]), [[1, 1], [1, 1], [1, 0], [1, 1]]);
});

test("messages of every role and parts of every kind", async (t) => {
  const page = await fake(t);
  const asked = await withChat(page, async ({ create, picture, heard }) => {
    const canvas = picture();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve));
    const call = (id, args) => ({ id, type: "function", function: { name: "look", arguments: args } });
    await create({
      messages: [
        { role: "developer", content: [{ type: "text", text: "Be " }, { type: "text", text: "brief." }] },
        {
          role: "user",
          name: "Ada",
          content: [
            { type: "image_url", image_url: { url: canvas.toDataURL() } },
            { type: "image_url", image_url: { url: blob, detail: "low" }, min_pixels: 784 },
            { type: "image_url", image_url: { url: URL.createObjectURL(blob), detail: "high" }, max_pixels: 5000 },
            { type: "image", image: canvas, resized_width: 56, resizedHeight: 28 },
            { type: "video", video: { frames: [canvas, blob] }, min_frames: 2, totalPixels: 9999 },
            { type: "text", text: "What?" },
          ],
        },
        { role: "assistant", content: null, reasoning_content: "Hm.", tool_calls: [call("a", '{"x": 1}'), call("b", "")] },
        { role: "tool", tool_call_id: "b", content: "second" },
        { role: "tool", tool_call_id: "a", content: [{ type: "text", text: "first" }] },
        { role: "assistant", content: [{ type: "refusal", refusal: "No." }] },
        { role: "user", content: "Read" },
        { role: "assistant", content: "It is", prefix: true },
      ],
    });
    return heard(1);
  });
  const [{ messages, images, videos }] = asked;
  assert.equal(images.length, 4);
  assert.equal(videos, 1);
  assert.deepEqual(messages, [
    { role: "system", content: [{ type: "text", text: "Be " }, { type: "text", text: "brief." }] },
    {
      role: "user",
      content: [
        { type: "image", image: 0 },
        { type: "image", image: 1, minPixels: 784, maxPixels: 262_144 },
        { type: "image", image: 2, maxPixels: 5000 },
        { type: "image", image: 3, resizedWidth: 56, resizedHeight: 28 },
        { type: "video", video: 0, minFrames: 2, totalPixels: 9999 },
        { type: "text", text: "What?" },
      ],
    },
    {
      role: "assistant",
      content: "",
      reasoning: "Hm.",
      toolCalls: [{ id: "a", name: "look", arguments: '{"x": 1}' }, { id: "b", name: "look", arguments: {} }],
    },
    { role: "tool", content: [{ type: "text", text: "first" }], toolCallId: "a" },
    { role: "tool", content: "second", toolCallId: "b" },
    { role: "assistant", content: [{ type: "text", text: "No." }] },
    { role: "user", content: "Read" },
    { role: "assistant", content: "It is", prefix: true },
  ]);
});

test("what is not possible is refused by name", async (t) => {
  const page = await fake(t);
  const user = { role: "user", content: "?" };
  const call = { id: "a", type: "function", function: { name: "look", arguments: "[]" } };
  const part = (part) => ({ messages: [{ role: "user", content: [part] }] });
  const cases = [
    [{}, "messages"],
    [{ messages: [] }, "messages"],
    [{ messages: [user], best_of: 2 }, "best_of"],
    [{ messages: [user], functions: [] }, "functions"],
    [{ messages: [user], modalities: ["text", "audio"] }, "modalities[1]"],
    [{ messages: [user], reasoning_effort: "low" }, "reasoning_effort"],
    [{ messages: [user], temperature: "hot" }, "temperature"],
    [{ messages: [user], temperature: -1 }, "temperature"],
    [{ messages: [user], top_p: 2 }, "top_p"],
    [{ messages: [user], n: 0 }, "n:"],
    [{ messages: [user], n: 1.5 }, "n:"],
    [{ messages: [user], max_tokens: 1, max_completion_tokens: 2 }, "max_tokens"],
    [{ messages: [user], top_logprobs: 3 }, "top_logprobs"],
    [{ messages: [user], logprobs: true, top_logprobs: 21 }, "top_logprobs"],
    [{ messages: [user], logit_bias: { the: 1 } }, "logit_bias"],
    [{ messages: [user], logit_bias: { 5: 101 } }, "logit_bias.5"],
    [{ messages: [user], stop: [1] }, "stop"],
    [{ messages: [user], stream_options: { include_usage: true } }, "stream_options"],
    [{ messages: [user], response_format: { type: "xml" } }, "response_format.type"],
    [{ messages: [user], response_format: { type: "json_schema" } }, "response_format.json_schema"],
    [{ messages: [user], tools: [{ type: "custom", custom: { name: "x" } }] }, "tools[0].type"],
    [{ messages: [user], tool_choice: "required" }, "tool_choice"],
    [{ messages: [user], tools: [TOOL], tool_choice: { type: "function", function: { name: "other" } } }, "tool_choice.function.name"],
    [{ messages: [{ role: "robot", content: "" }] }, "messages[0].role"],
    [{ messages: [{ role: "function", name: "x", content: "" }] }, "messages[0].role"],
    [{ messages: [{ role: "user", content: null }] }, "messages[0].content"],
    [{ messages: [{ ...user, mood: "good" }] }, "messages[0].mood"],
    [{ messages: [{ role: "system", content: [{ type: "image_url", image_url: { url: "data:," } }] }] }, "messages[0].content[0].type"],
    [part({ type: "input_audio", input_audio: {} }), "messages[0].content[0].type"],
    [part({ type: "image_url", image_url: "data:," }), "messages[0].content[0].image_url"],
    [part({ type: "image_url", image_url: {} }), "messages[0].content[0].image_url.url"],
    [part({ type: "image_url", image_url: { url: "data:,", detail: "fine" } }), "messages[0].content[0].image_url.detail"],
    [part({ type: "text" }), "messages[0].content[0].text"],
    [{ messages: [user, { role: "assistant", tool_calls: [call] }] }, "messages[1].tool_calls[0].function.arguments"],
    [{ messages: [user, { role: "tool", content: "x" }] }, "messages[1].tool_call_id"],
    [{ messages: [user, { role: "tool", content: "x", tool_call_id: "a" }] }, "messages"],
    [{ messages: [{ role: "assistant", content: "x", prefix: true }, user] }, "messages[0].prefix"],
  ];
  const seen = await withChat(
    page,
    async ({ create, asked, caught }, cases) => {
      const errors = [];
      for (const [request] of cases) {
        errors.push(await caught(create(request)));
        errors.push(await caught(create({ ...request, stream: true, ...(request.stream_options && { stream: false }) })));
      }
      return { errors, asked };
    },
    cases,
  );
  for (const [i, [request, field]] of cases.entries()) {
    for (const error of seen.errors.slice(2 * i, 2 * i + 2)) {
      assert.equal(error.code, "bad_request", JSON.stringify(request));
      assert.ok(error.message.startsWith(field), `${error.message} for ${field}`);
    }
  }
  assert.deepEqual(seen.asked, [], "the engine was never asked");
});

test("requests run one after another, each with its own conversation; what they share is not computed again", async (t) => {
  const page = await fake(t);
  const seen = await withChat(page, async ({ create, say, all, heard }) => {
    const one = [say("Read one")];
    const two = [say("Read two"), { role: "assistant", content: "b" }, say("Locate it")];
    const results = await Promise.all([
      create({ messages: one }),
      create({ messages: two, stream: true }).then(all),
      create({ messages: one }),
      create({ messages: [...two, { role: "assistant", content: "c" }, say("Read three")] }),
      create({ messages: [...two, { role: "assistant", content: "c" }, say("Read four")] }),
    ]);
    return { results, asked: await heard(5) };
  });
  assert.deepEqual(seen.asked.map(({ messages }) => messages.length), [1, 3, 1, 5, 5]);
  assert.ok(seen.asked.every(({ session, options }) => session === 1 && options.replace));
  assert.match(seen.results[1].map(({ choices }) => choices[0].delta.content ?? "").join(""), /bbox_2d/);
  assert.match(seen.results[0].choices[0].message.content, /^Account settings/);
  const cached = [0, 2, 3, 4].map((i) => seen.results[i].usage.prompt_tokens_details.cached_tokens);
  assert.deepEqual(cached, [0, 0, 0, 120]);
});

test("a picture is what it was when the request was made, whenever its turn comes", async (t) => {
  const page = await fake(t);
  const asked = await withChat(page, async ({ create, say, picture, heard }) => {
    const canvas = picture(30, 20);
    const request = { messages: [say([{ type: "image_url", image_url: { url: canvas } }, { type: "text", text: "Read" }])], n: 2 };
    await create(request);
    const stop = new AbortController();
    const waiting = create({ messages: [say("wait")] }, { signal: stop.signal });
    const queued = create(request);
    canvas.width = 300;
    // The one before it is being written.
    await heard(3);
    stop.abort();
    await waiting.catch(() => {});
    await queued;
    return heard(5);
  });
  assert.equal(asked.length, 5);
  const sizes = asked.flatMap(({ images }) => images);
  assert.equal(sizes.length, 4);
  assert.equal(new Set(sizes).size, 1, sizes.join());
});

test("an answer can be ended: by a signal, by the controller, by leaving the loop; the next one is not harmed", async (t) => {
  const page = await fake(t);
  const seen = await withChat(page, async ({ create, say, all, caught }) => {
    const wait = { messages: [say("wait")] };
    const streaming = { ...wait, stream: true };
    const stop = new AbortController();
    const whole = create(wait, { signal: stop.signal });
    const queuedStop = new AbortController();
    const queued = create(wait, { signal: queuedStop.signal });
    queuedStop.abort();
    // While the one before it is still being written.
    const second = await caught(queued);
    stop.abort();
    const first = await caught(whole);
    const before = await caught(create(wait, { signal: AbortSignal.abort() }));
    const dead = await all(await create(streaming, { signal: AbortSignal.abort() }));
    const left = await create(streaming);
    for await (const { choices } of left) if (choices[0].delta.content) break;
    const controlled = await create(streaming);
    let pieces = 0;
    let finished = 0;
    for await (const { choices } of controlled) {
      if (++pieces === 4) controlled.controller.abort();
      finished += choices[0].finish_reason ? 1 : 0;
    }
    const signalled = new AbortController();
    const third = await create(streaming, { signal: signalled.signal });
    let more = 0;
    for await (const _ of third) if (++more === 4) signalled.abort();
    const reader = (await create(streaming)).toReadableStream().getReader();
    await reader.read();
    await reader.cancel();
    const next = await create({ messages: [say("Read")] });
    return { first, second, before, dead, left: left.controller.signal.aborted, pieces, finished, more, next };
  });
  for (const error of [seen.first, seen.second, seen.before]) assert.equal(error.code, "aborted");
  assert.deepEqual(seen.dead, []);
  assert.equal(seen.left, true);
  assert.deepEqual([seen.pieces, seen.finished, seen.more], [4, 0, 4]);
  assert.equal(seen.next.choices[0].finish_reason, "stop");
});

test("errors of the engine are thrown, from the call or from the loop, and harm nothing after", async (t) => {
  const page = await fake(t);
  const seen = await withChat(page, async ({ model, create, say, all, caught }) => {
    const direct = await caught(create({ messages: [say("throw")] }));
    const stream = await create({ messages: [say("throw")], stream: true });
    const looped = await caught(all(stream));
    // Nobody reads this one: it must not count as an unhandled rejection.
    await create({ messages: [say("throw")], stream: true });
    const again = await caught(all(stream));
    const picture = [say([{ type: "image_url", image_url: { url: "data:text/plain,no" } }])];
    const broken = await caught(create({ messages: picture }));
    const next = await create({ messages: [say("Read")], max_tokens: 2 });
    const pending = create({ messages: [say("silent")] });
    model.destroy();
    return { direct, looped, again, broken, next, gone: await caught(pending), after: await caught(create({ messages: [say("Read")] })) };
  });
  assert.deepEqual([seen.direct.code, seen.looped.code, seen.direct.retryable], ["oom", "oom", true]);
  assert.equal(seen.again.code, "bad_request");
  assert.equal(seen.broken.code, "bad_image");
  assert.equal(seen.next.choices[0].finish_reason, "length");
  assert.deepEqual([seen.gone.code, seen.after.code], ["aborted", "aborted"]);
});

test("calls: one where only one is allowed, none where they are forbidden, fed back", async (t) => {
  const page = await fake(t);
  const seen = await withChat(
    page,
    async ({ create, say, all, heard }, tool) => {
      const messages = [say("call twice")];
      const one = await create({ messages, tools: [tool], parallel_tool_calls: false });
      const streamed = await all(await create({ messages, tools: [tool], parallel_tool_calls: false, stream: true }));
      const none = await create({ messages, tools: [tool], tool_choice: "none" });
      const { message } = one.choices[0];
      const answer = { role: "tool", tool_call_id: message.tool_calls[0].id, content: "7" };
      const after = await create({ messages: [...messages, message, answer], tools: [tool], tool_choice: "none" });
      return { one, streamed, none, after, asked: await heard(4) };
    },
    TOOL,
  );
  assert.equal(seen.one.choices[0].finish_reason, "tool_calls");
  assert.equal(seen.one.choices[0].message.tool_calls.length, 1);
  const calls = seen.streamed.flatMap(({ choices }) => choices[0].delta.tool_calls ?? []);
  assert.deepEqual(calls, [{ index: 0, id: "call_0", type: "function", function: { name: "look", arguments: '{"number":0}' } }]);
  assert.equal(seen.streamed.at(-1).choices[0].finish_reason, "tool_calls");
  assert.equal(seen.none.choices[0].finish_reason, "stop");
  assert.deepEqual(seen.asked.at(-1).messages.slice(1), [
    { role: "assistant", content: "", toolCalls: [{ id: "call_0", name: "look", arguments: '{"number":0}' }] },
    { role: "tool", content: "7", toolCallId: "call_0" },
  ]);
});

test("numbers in arguments stay as they were written, and what OpenAI's .parse() adds to a message is taken back", async (t) => {
  const page = await fake(t);
  const text = '{"id": 2512292042121000001}';
  const { said, asked } = await withChat(
    page,
    async ({ create, heard }, [tool, text]) => {
      const { choices } = await create({ messages: [{ role: "user", content: `call with ${text}` }], tools: [tool] });
      const said = { ...choices[0].message, parsed: null };
      said.tool_calls = said.tool_calls.map((call) => ({ ...call, function: { ...call.function, parsed_arguments: {} } }));
      const answer = { role: "tool", tool_call_id: said.tool_calls[0].id, content: "7" };
      await create({ messages: [{ role: "user", content: "?" }, { ...said, parsed: { any: "thing" } }, answer], tools: [tool], tool_choice: "none" });
      return { said, asked: await heard(2) };
    },
    [TOOL, text],
  );
  assert.equal(said.tool_calls[0].function.arguments, text);
  assert.equal(asked.at(-1).messages[1].toolCalls[0].arguments, text);
});

test("tee gives the same chunks twice, and one half can be left", async (t) => {
  const page = await fake(t);
  const seen = await withChat(page, async ({ create, say, all }) => {
    const [left, right] = (await create({ messages: [say("Read")], stream: true })).tee();
    const both = await Promise.all([all(left), all(right)]);
    const [half, whole] = (await create({ messages: [say("Read")], stream: true })).tee();
    for await (const _ of half) break;
    return { both, rest: (await all(whole)).length };
  });
  assert.ok(seen.both[0].length > 3);
  assert.deepEqual(seen.both[0], seen.both[1]);
  assert.equal(seen.rest, seen.both[0].length);
});

test("the embedded model answers about a picture, and knows it again as a data URL", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const sample = (await readFile(new URL("../../../www/public-sample/sample-screen.png", import.meta.url))).toString("base64");
  const seen = await withPackage(
    page,
    async ({ load }, sample) => {
      const model = await load("/models/screen-reader/");
      const { create } = model.chat.completions;
      const url = `data:image/png;base64,${sample}`;
      const look = (text) => ({ role: "user", content: [{ type: "image_url", image_url: { url } }, { type: "text", text }] });
      const first = await create({ messages: [look("What does the red button say?")], max_tokens: 24 });
      const messages = [
        look("What does the red button say?"),
        first.choices[0].message,
        { role: "user", content: "How many buttons are there?" },
      ];
      const second = await create({ messages, max_tokens: 24 });
      const stream = await create({ messages, max_tokens: 24, stream: true, stream_options: { include_usage: true } });
      const lines = await new Response(stream.toReadableStream()).text();
      const session = await model.session();
      const content = [{ type: "image", image: url }, { type: "text", text: "What does the red button say?" }];
      const asked = await session.prompt([{ role: "user", content }], { maxTokens: 24 });
      const own = { max_tokens: 24, seed: 5, temperature: 1, n: 2, logprobs: true, top_logprobs: 2, stop: "\n" };
      const drawn = await create({ messages: [{ role: "user", content: "What does the red button say?" }], ...own });
      return { first, second, lines, asked, drawn };
    },
    sample,
  );
  const [first, second] = [seen.first, seen.second];
  assert.equal(first.choices[0].message.content, seen.asked.text, "as a session answers");
  assert.equal(first.usage.prompt_tokens, seen.asked.usage.promptTokens);
  assert.ok(first.usage.prompt_tokens_details.image_tokens > 0);
  const { cached_tokens } = second.usage.prompt_tokens_details;
  assert.ok(cached_tokens >= first.usage.prompt_tokens, `${cached_tokens} of ${second.usage.prompt_tokens} were there`);
  const final = await ChatCompletionStream.fromReadableStream(new Response(seen.lines).body).finalChatCompletion();
  assert.equal(final.choices[0].message.content, second.choices[0].message.content);
  assert.equal(final.usage.prompt_tokens, second.usage.prompt_tokens);
  assert.equal(seen.drawn.choices.length, 2);
  for (const { message, logprobs, finish_reason } of seen.drawn.choices) {
    assert.ok(["stop", "length"].includes(finish_reason));
    assert.ok(!message.content.includes("\n"));
    assert.ok(logprobs.content.map(({ token }) => token).join("").startsWith(message.content));
    for (const { logprob, top_logprobs } of logprobs.content) {
      assert.ok(logprob <= 0);
      assert.equal(top_logprobs.length, 2);
      assert.ok(top_logprobs[0].logprob >= top_logprobs[1].logprob && top_logprobs[0].logprob >= logprob - 1e-6);
    }
  }
});

test("the embedded model answers in JSON of a schema, and calls what it is told to call", async (t) => {
  const page = await open(t);
  page.setDefaultTimeout(0);
  const seen = await withPackage(page, async ({ load }) => {
    const model = await load("/models/screen-reader/");
    const { create } = model.chat.completions;
    const messages = [{ role: "user", content: "Locate the red button." }];
    const schema = { type: "object", properties: { color: { enum: ["red", "blue"] }, n: { type: "integer", maximum: 9, minimum: 0 } }, required: ["color", "n"], additionalProperties: false };
    const response_format = { type: "json_schema", json_schema: { name: "thing", schema } };
    const parameters = { type: "object", properties: { kind: { enum: ["button", "link"] } }, required: ["kind"], additionalProperties: false };
    const tools = [{ type: "function", function: { name: "press", parameters, strict: true } }];
    const tool_choice = { type: "function", function: { name: "press" } };
    const stream = await create({ messages, tools, tool_choice, parallel_tool_calls: false, max_tokens: 96, stream: true });
    return {
      json: await create({ messages, response_format, max_tokens: 64 }),
      lines: await new Response(stream.toReadableStream()).text(),
    };
  });
  const [{ message, finish_reason }] = seen.json.choices;
  assert.equal(finish_reason, "stop");
  const value = JSON.parse(message.content);
  assert.ok(["red", "blue"].includes(value.color) && Number.isInteger(value.n), message.content);
  const called = await ChatCompletionStream.fromReadableStream(new Response(seen.lines).body).finalChatCompletion();
  assert.equal(called.choices[0].finish_reason, "tool_calls");
  const [call] = called.choices[0].message.tool_calls;
  assert.equal(called.choices[0].message.tool_calls.length, 1);
  assert.equal(call.function.name, "press");
  assert.ok(["button", "link"].includes(JSON.parse(call.function.arguments).kind), call.function.arguments);
});
