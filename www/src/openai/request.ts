// Reads a request in the format of OpenAI's Chat Completions.

import { FanlightError } from "../errors.js";
import type { GenerateOptions, ImagePart, ImageSource, Message, Part, PixelLimits, Tool, ToolCall, VideoOptions, VideoSource } from "../types.js";
import { Fields, wrong } from "./fields.js";
import type { ChatVideoOptions } from "./types.js";

export interface Asked {
  messages: Message[];
  tools: Tool[];
  options: GenerateOptions;
  /** One seed for each answer that is requested. */
  seeds: (number | undefined)[];
  /** Whether an answer may have more than one tool call. */
  manyCalls: boolean;
  model: string | undefined;
  stream: boolean;
  includeUsage: boolean;
}

/** Limits for the pictures of a request. */
export interface Sight {
  /** The most pixels of a picture, as the model was loaded. */
  maxPixels?: number | undefined;
}

/** Fields about accounts, billing and speed. They have no meaning here, or do not change the answer. */
const IGNORED = [
  "user",
  "metadata",
  "store",
  "service_tier",
  "safety_identifier",
  "prompt_cache_key",
  "prompt_cache_retention",
  "prompt_cache_options",
  "prediction",
];

const MOST_ANSWERS = 128;
/** OpenAI's size of a picture with low detail. */
const LOW_DETAIL = 512 * 512;

/** Throws "bad_request" for the first field that is not valid; the message names it. */
export function parseRequest(request: unknown, sight: Sight = {}): Asked {
  const r = new Fields(request, "");
  r.ignore(IGNORED);
  r.refuse("functions", "it has been replaced by `tools`", "Use `tools`.");
  r.refuse("function_call", "it has been replaced by `tool_choice`", "Use `tool_choice`.");
  for (const [i, modality] of (r.list("modalities") ?? []).entries()) {
    if (modality !== "text") throw wrong(`modalities[${i}]`, '"text"', modality);
  }
  const messages = conversation(r, sight);
  const tools = r.list("tools")?.map((tool, i) => toolOf(tool, `tools[${i}]`)) ?? [];
  const stream = r.boolean("stream") ?? false;
  const streamOptions = r.object("stream_options");
  if (streamOptions && !stream) throw wrong("stream_options", "`stream: true` with it", {});
  const includeUsage = streamOptions?.boolean("include_usage") ?? false;
  streamOptions?.ignore(["include_obfuscation"]);
  streamOptions?.end();
  const options = generation(r, tools);
  const n = r.number("n", { least: 1, most: MOST_ANSWERS, whole: true }) ?? 1;
  const first = r.number("seed", { whole: true }) ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  // OpenAI allows negative seeds, the engine does not.
  const seeds = Array.from({ length: n }, (_, i) => Math.abs(first) + i);
  const manyCalls = r.boolean("parallel_tool_calls") ?? true;
  const model = r.string("model");
  r.end();
  return { messages, tools, options, seeds, manyCalls, model, stream, includeUsage };
}

function generation(r: Fields, tools: Tool[]): GenerateOptions {
  const penalty = { least: -2, most: 2 };
  const [longer, shorter] = ["max_completion_tokens", "max_tokens"].map((name) => r.number(name, { least: 1, whole: true }));
  if (longer !== undefined && shorter !== undefined && longer !== shorter) {
    throw wrong("max_tokens", "the same value as max_completion_tokens, or nothing", shorter);
  }
  const topK = r.number("top_k", { least: -1, whole: true });
  const options: { [name in keyof GenerateOptions]: GenerateOptions[name] | undefined } = {
    maxTokens: longer ?? shorter,
    temperature: r.number("temperature", { least: 0 }),
    topP: r.number("top_p", { least: 0, most: 1 }),
    topK: topK === undefined ? undefined : Math.max(topK, 0),
    minP: r.number("min_p", { least: 0, most: 1 }),
    repetitionPenalty: r.number("repetition_penalty", { least: Number.MIN_VALUE }),
    presencePenalty: r.number("presence_penalty", penalty),
    frequencyPenalty: r.number("frequency_penalty", penalty),
    logitBias: bias(r.object("logit_bias"), r.plain("logit_bias")),
    logprobs: logprobs(r),
    stop: stops(r),
    responseConstraint: format(r.object("response_format")),
    toolChoice: choice(r, tools),
  };
  // Options that are not given come from the checkpoint.
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function bias(fields: Fields | undefined, all: Record<string, unknown> | undefined): Record<number, number> | undefined {
  if (!fields || !all) return undefined;
  for (const id of Object.keys(all)) {
    if (!/^\d+$/.test(id)) throw wrong("logit_bias", "token ids as keys", id);
    fields.need(fields.number(id, { least: -100, most: 100 }), id, "a number from -100 on to 100");
  }
  return all as Record<number, number>;
}

function logprobs(r: Fields): number | undefined {
  const top = r.number("top_logprobs", { least: 0, most: 20, whole: true });
  const wanted = r.boolean("logprobs") ?? false;
  if (top !== undefined && !wanted) throw wrong("top_logprobs", "`logprobs: true` with it", top);
  return wanted ? (top ?? 0) : undefined;
}

function stops(r: Fields): string[] | undefined {
  const stop = r.any("stop");
  if (stop === undefined) return undefined;
  const list: unknown[] = Array.isArray(stop) ? stop : [stop];
  for (const text of list) if (typeof text !== "string" || text === "") throw wrong("stop", "a text or a list of texts", text);
  return list as string[];
}

function format(f: Fields | undefined): GenerateOptions["responseConstraint"] {
  if (!f) return undefined;
  const type = f.need(f.choice("type", "text", "json_object", "json_schema"), "type", "a type");
  const schema = f.object("json_schema");
  f.end();
  if (type === "text") return undefined;
  if (type === "json_object") return { type: "object" };
  const s = f.need(schema, "json_schema", "an object");
  s.ignore(["name", "description"]);
  // Answers always match the schema strictly.
  s.boolean("strict");
  const found = s.plain("schema");
  s.end();
  return found ?? { type: "object" };
}

function toolOf(value: unknown, at: string): Tool {
  const t = new Fields(value, at);
  t.need(t.choice("type", "function"), "type", '"function"');
  const f = t.need(t.object("function"), "function", "an object");
  t.end();
  const name = f.need(f.string("name"), "name", "a name");
  const description = f.string("description");
  const parameters = f.plain("parameters");
  const strict = f.boolean("strict");
  f.end();
  return {
    type: "function",
    function: {
      name,
      ...(description !== undefined && { description }),
      ...(parameters && { parameters }),
      ...(strict !== undefined && { strict }),
    },
  };
}

function choice(r: Fields, tools: Tool[]): GenerateOptions["toolChoice"] {
  const value = r.any("tool_choice");
  if (value === undefined) return undefined;
  if (value === "none" || (value === "auto" && tools.length > 0)) return value;
  if (typeof value === "string" && value !== "auto" && value !== "required") {
    throw wrong("tool_choice", '"none", "auto", "required" or a function', value);
  }
  if (tools.length === 0) throw wrong("tool_choice", "`tools` with it", value);
  if (value === "required") return value;
  const c = new Fields(value, "tool_choice");
  c.need(c.choice("type", "function"), "type", '"function"');
  const f = c.need(c.object("function"), "function", "an object");
  c.end();
  const name = f.need(f.string("name"), "name", "a name");
  f.end();
  const names = tools.map((tool) => tool.function.name);
  if (!names.includes(name)) throw wrong("tool_choice.function.name", `one of ${names.join(", ")}`, name);
  return { type: "function", function: { name } };
}

// ── Messages ────────────────────────────────────────────────────────────────────────────────────────────────────────

function conversation(r: Fields, sight: Sight): Message[] {
  const list = r.need(r.list("messages"), "messages", "a list");
  if (list.length === 0) throw wrong("messages", "at least one message", []);
  const messages = list.map((message, i) => messageOf(message, `messages[${i}]`, sight));
  const prefixed = messages.findIndex(({ prefix }) => prefix);
  if (prefixed >= 0 && prefixed < messages.length - 1) throw wrong(`messages[${prefixed}].prefix`, "it only in the last message", true);
  return inOrder(messages);
}

function messageOf(value: unknown, at: string, sight: Sight): Message {
  const m = new Fields(value, at);
  const role = m.need(m.choice("role", "system", "developer", "user", "assistant", "tool"), "role", "a role");
  // The prompts of these models have no names of participants.
  m.ignore(["name"]);
  const message: Message = { role: role === "developer" ? "system" : role, content: contentOf(m, role, sight) };
  if (role === "assistant") {
    // Answers have these fields (`parsed` if they were read with `.parse()` of OpenAI's client), but they say nothing new.
    m.ignore(["annotations", "parsed"]);
    m.refuse("audio", "these models do not write audio");
    m.refuse("function_call", "it has been replaced by `tool_calls`", "Use `tool_calls`.");
    const reasoning = m.string("reasoning_content");
    if (reasoning !== undefined) message.reasoning = reasoning;
    const calls = m.list("tool_calls")?.map((call, i) => callOf(call, `${at}.tool_calls[${i}]`)) ?? [];
    if (calls.length > 0) message.toolCalls = calls;
    if (m.boolean("prefix")) message.prefix = true;
  }
  if (role === "tool") message.toolCallId = m.need(m.string("tool_call_id"), "tool_call_id", "the id of a call");
  m.end();
  return message;
}

function contentOf(m: Fields, role: string, sight: Sight): string | Part[] {
  const content = m.any("content");
  if (Array.isArray(content)) {
    const looks = role === "user" || role === "tool";
    return content.map((part, i) => partOf(part, `${m.path("content")}[${i}]`, looks, sight));
  }
  const refusal = role === "assistant" ? m.string("refusal") : undefined;
  if (content === undefined && role === "assistant") return refusal ?? "";
  if (typeof content !== "string") throw wrong(m.path("content"), "a text or a list of parts", content);
  return content;
}

function partOf(value: unknown, at: string, looks: boolean, sight: Sight): Part {
  const p = new Fields(value, at);
  const type = p.need(p.string("type"), "type", "a type");
  // A hint for a cache. The cache here does not need it.
  p.ignore(["prompt_cache_breakpoint"]);
  const part = ((): Part => {
    if (type === "text") return { type, text: p.need(p.string("text"), "text", "a text") };
    if (type === "refusal" && !looks) return { type: "text", text: p.need(p.string("refusal"), "refusal", "a text") };
    if (looks && type === "image_url") return imageUrl(p, sight);
    if (looks && type === "image") return image(p);
    if (looks && (type === "video" || type === "video_url")) return video(p, type);
    throw wrong(p.path("type"), looks ? '"text", "image_url", "image", "video" or "video_url"' : '"text"', type);
  })();
  p.end();
  return part;
}

function imageUrl(p: Fields, sight: Sight): ImagePart {
  const u = p.need(p.object("image_url"), "image_url", "an object with a url");
  const url = u.need(u.any("url"), "url", "a URL") as ImageSource;
  const detail = u.choice("detail", "auto", "low", "high", "original");
  u.end();
  const own = limits(p);
  if (detail === "low") own.maxPixels ??= Math.min(LOW_DETAIL, sight.maxPixels ?? LOW_DETAIL);
  return { type: "image", image: url, ...own };
}

function image(p: Fields): ImagePart {
  const image = p.need(p.any("image"), "image", "a picture") as ImageSource;
  return { type: "image", image, ...limits(p), ...either(p, { resized_width: "resizedWidth", resized_height: "resizedHeight" }) };
}

/** The names of qwen-vl-utils, and those of `VideoOptions`. */
const VIDEO: { [name in Exclude<keyof ChatVideoOptions, "seconds">]: keyof VideoOptions } = {
  fps: "fps",
  nframes: "nframes",
  min_frames: "minFrames",
  max_frames: "maxFrames",
  video_start: "videoStart",
  video_end: "videoEnd",
  min_pixels: "minPixels",
  max_pixels: "maxPixels",
  total_pixels: "totalPixels",
  resized_width: "resizedWidth",
  resized_height: "resizedHeight",
};

function video(p: Fields, type: "video" | "video_url"): Part {
  const u = type === "video_url" ? p.need(p.object(type), type, "an object with a url") : undefined;
  const video = (u ? u.need(u.any("url"), "url", "a URL") : p.need(p.any("video"), "video", "a video")) as VideoSource;
  u?.end();
  const seconds = p.number("seconds", { least: 0 });
  return { type: "video", video, ...(seconds !== undefined && { seconds }), ...either(p, VIDEO) };
}

const limits = (p: Fields): PixelLimits => either(p, { min_pixels: "minPixels", max_pixels: "maxPixels" });

/** Reads numbers whose names may be written in snake_case or camelCase. */
function either<N extends string>(p: Fields, names: Record<string, N>): { [name in N]?: number } {
  const found = Object.entries(names).map(([snake, camel]) => [camel, p.number(snake, { least: 0 }) ?? p.number(camel, { least: 0 })]);
  return Object.fromEntries(found.filter(([, value]) => value !== undefined)) as { [name in N]?: number };
}

function callOf(value: unknown, at: string): ToolCall {
  const c = new Fields(value, at);
  const id = c.need(c.string("id"), "id", "the call's id");
  c.need(c.choice("type", "function"), "type", '"function"');
  const f = c.need(c.object("function"), "function", "an object");
  // The stream helpers of OpenAI's client add this number.
  c.ignore(["index"]);
  c.end();
  const name = f.need(f.string("name"), "name", "a name");
  const text = f.need(f.string("arguments"), "arguments", "JSON of an object");
  f.ignore(["parsed_arguments"]);
  f.end();
  const args = argumentsOf(text, f.path("arguments"));
  return { id, name, arguments: args, ...(text.trim() !== "" && { argumentsText: text }) };
}

/** Parses the arguments of a call. A call without arguments may have an empty text. */
function argumentsOf(text: string, at: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text.trim() === "" ? "{}" : text);
  } catch {
    throw wrong(at, "JSON of an object", text);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(at, "JSON of an object", text);
  return value as Record<string, unknown>;
}

/**
 * Puts the answers to the calls of a message into the order of the calls, because chat templates tell them apart only by
 * their order.
 */
function inOrder(messages: Message[]): Message[] {
  const ordered = [...messages];
  for (let i = 0; i < ordered.length; ) {
    const end = ordered.findIndex(({ role }, at) => at >= i && role !== "tool");
    const to = end < 0 ? ordered.length : end;
    if (to === i) {
      i++;
      continue;
    }
    const calls = (ordered[i - 1]?.toolCalls ?? []).map(({ id }) => id);
    const rank = ({ toolCallId }: Message) => calls.indexOf(toolCallId ?? "");
    const stray = ordered.slice(i, to).find((message) => rank(message) < 0);
    if (stray) {
      const hint = "A message of role \"tool\" must follow the assistant's message with the call that it answers.";
      throw new FanlightError("bad_request", `messages: there is no call "${stray.toolCallId}" before its answer`, hint);
    }
    ordered.splice(i, to - i, ...ordered.slice(i, to).sort((a, b) => rank(a) - rank(b)));
    i = to;
  }
  return ordered;
}
