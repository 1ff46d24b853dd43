// Compiled and not run: what is typed by OpenAI's npm client can be asked here, and what comes back is what it expects.

import type OpenAI from "openai";
import type { ChatChunk, ChatCompletion, ChatMessage, ChatMessageParam, ChatRequest, Model } from "../../../../www/dist/src/index.js";

type Theirs = OpenAI.ChatCompletionCreateParams;
declare const model: Model;

// Their requests are ours: all but the few fields that we refuse at their names.
type Refused = "audio" | "functions" | "function_call" | "moderation" | "web_search_options" | "reasoning_effort" | "verbosity";
export const asked = (request: Omit<Theirs, Refused>): Promise<unknown> => model.chat.completions.create(request);
export const messages = (all: OpenAI.ChatCompletionMessageParam[]): ChatMessageParam[] => all;
export const again = (answer: OpenAI.ChatCompletionMessage): ChatMessageParam => answer;

// Our answers are theirs.
export const completion = (answer: ChatCompletion): OpenAI.ChatCompletion => answer;
export const chunk = (piece: ChatChunk): OpenAI.ChatCompletionChunk => piece;
export const said = (message: ChatMessage): OpenAI.ChatCompletionMessageParam => message;

// And so are our requests, without what was added.
export const plain = {
  model: "any",
  messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:,", detail: "low" } }, { type: "text", text: "?" }] }],
  tools: [{ type: "function", function: { name: "look", parameters: { type: "object" } } }],
  tool_choice: { type: "function", function: { name: "look" } },
  response_format: { type: "json_schema", json_schema: { name: "thing", schema: { type: "object" } } },
  stream_options: { include_usage: true },
  stream: true,
} satisfies ChatRequest satisfies Theirs;

// What `create` gives depends on `stream`, as there.
export async function both(request: ChatMessageParam[]): Promise<string | null> {
  const whole = await model.chat.completions.create({ messages: request });
  const stream = await model.chat.completions.create({ messages: request, stream: true });
  let text = whole.choices[0]?.message.content ?? "";
  for await (const { choices } of stream) text += choices[0]?.delta.content ?? "";
  return text;
}

// @ts-expect-error: a role that there is not
export const wrongRole: ChatMessageParam = { role: "robot", content: "" };
// @ts-expect-error: a picture without one
export const wrongPart: ChatMessageParam = { role: "user", content: [{ type: "image_url" }] };
