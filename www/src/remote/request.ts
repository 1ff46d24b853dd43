// Builds the requests to a server: options, messages and pictures in the form of OpenAI's API.

import { FanlightError } from "../errors.js";
import type { ChatRequestBase } from "../openai/types.js";
import { imageBytes } from "../page/media.js";
import type { Taken } from "../page/wire.js";
import type { GenerateOptions, ImageSource, Message, Part, PixelLimits, Tool } from "../types.js";

export function requestOf(options: GenerateOptions, tools: Tool[]): Omit<ChatRequestBase, "messages"> {
  const { responseConstraint: constraint, logprobs, toolChoice } = options;
  if (constraint instanceof RegExp || (constraint && "lark" in constraint)) {
    throw new FanlightError("unsupported", "a server accepts only a JSON schema as responseConstraint, not a regular expression or grammar");
  }
  const request = {
    max_tokens: options.maxTokens,
    temperature: options.temperature,
    top_p: options.topP,
    top_k: options.topK,
    min_p: options.minP,
    repetition_penalty: options.repetitionPenalty,
    presence_penalty: options.presencePenalty,
    frequency_penalty: options.frequencyPenalty,
    logit_bias: options.logitBias,
    seed: options.seed,
    stop: options.stop,
    ...(logprobs !== undefined && { logprobs: true, top_logprobs: logprobs }),
    response_format: constraint && { type: "json_schema", json_schema: { name: "answer", strict: true, schema: constraint } },
    ...(tools.length > 0 && { tools, tool_choice: toolChoice }),
  };
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
}

/** Messages in the form of OpenAI's API, and the pictures in them with their pixel limits. */
export async function outgoing(messages: (Message | Taken)[]) {
  const images: Uint8Array[] = [];
  const limits: PixelLimits[] = [];
  const sent: unknown[] = [];
  const partOf = async (part: Part | Exclude<Taken["content"], string>[number]): Promise<unknown> => {
    if (part.type === "text") return part;
    if (part.type === "video") return { type: "video_url", video_url: { url: await videoUrl(part.video) }, ...(part.fps !== undefined && { fps: part.fps }) };
    if (part.resizedWidth !== undefined || part.resizedHeight !== undefined) {
      throw new FanlightError("unsupported", "resizedWidth and resizedHeight are not possible with a model on a server", "Use minPixels and maxPixels.");
    }
    const bytes = await asSent(part.image);
    const { minPixels, maxPixels } = part;
    images.push(bytes);
    limits.push({ ...(minPixels !== undefined && { minPixels }), ...(maxPixels !== undefined && { maxPixels }) });
    return {
      type: "image_url",
      image_url: { url: dataUrl(bytes, imageType(bytes)) },
      ...(minPixels !== undefined && { min_pixels: minPixels }),
      ...(maxPixels !== undefined && { max_pixels: maxPixels }),
    };
  };
  for (const { role, content, reasoning, toolCalls, toolCallId, prefix } of messages) {
    const parts: unknown[] = [];
    // One after another, because pictures are numbered in this order.
    if (typeof content !== "string") for (const part of content) parts.push(await partOf(part));
    const calls = toolCalls?.map(({ id, name, arguments: args, argumentsText }) => ({
      id,
      type: "function",
      function: { name, arguments: argumentsText ?? JSON.stringify(args) },
    }));
    sent.push({
      role,
      content: typeof content === "string" ? content : parts,
      ...(reasoning !== undefined && { reasoning_content: reasoning }),
      ...(calls && { tool_calls: calls }),
      ...(toolCallId !== undefined && { tool_call_id: toolCallId }),
      ...(prefix && { prefix }),
    });
  }
  return { messages: sent as ChatRequestBase["messages"], images, limits };
}

/** A message of a request, in which pictures and videos that only this page can read are replaced by data: URLs. */
export async function inlined(message: ChatRequestBase["messages"][number]): Promise<unknown> {
  if (!Array.isArray(message.content)) return message;
  const content = message.content.map(async (part) => {
    if (part.type === "image_url") {
      const { url } = part.image_url;
      return isPublic(url) ? part : { ...part, image_url: { ...part.image_url, url: await imageUrl(url) } };
    }
    if (part.type === "image") {
      const { type: _, image, ...rest } = part;
      return { ...rest, type: "image_url", image_url: { url: isPublic(image) ? image : await imageUrl(image) } };
    }
    if (part.type === "video_url") return { ...part, video_url: { url: await videoUrl(part.video_url.url) } };
    if (part.type !== "video") return part;
    const { type: _, video, ...rest } = part;
    return { ...rest, type: "video_url", video_url: { url: await videoUrl(video) } };
  });
  return { ...message, content: await Promise.all(content) };
}

/** Whether this is an address that a server can read too. */
const isPublic = (url: unknown): url is string | URL => /^(https?|data):/i.test(String(url instanceof URL || typeof url === "string" ? url : ""));

async function imageUrl(source: ImageSource): Promise<string> {
  const bytes = await asSent(source);
  return dataUrl(bytes, imageType(bytes));
}

async function videoUrl(video: unknown): Promise<string> {
  if (isPublic(video)) return String(video);
  if (video instanceof Blob) return dataUrl(new Uint8Array(await video.arrayBuffer()), video.type || "video/mp4");
  throw new FanlightError("unsupported", "a server accepts a video only as a file or an address", "Give a Blob or an https URL.");
}

/** A picture's file, in a format that every server accepts. `imageBytes` gives a BMP for raw pixels, which is converted to PNG here. */
async function asSent(source: ImageSource | Promise<Uint8Array>): Promise<Uint8Array> {
  const bytes = await imageBytes(source);
  if (bytes[0] !== 0x42 || bytes[1] !== 0x4d) return bytes;
  const options: ImageBitmapOptions = { premultiplyAlpha: "none", colorSpaceConversion: "none" };
  const bitmap = await createImageBitmap(new Blob([bytes as BlobPart], { type: "image/bmp" }), options);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
  return new Uint8Array(await (await canvas.convertToBlob({ type: "image/png" })).arrayBuffer());
}

function imageType(bytes: Uint8Array): string {
  const begins = (...values: number[]) => values.every((value, i) => bytes[i] === value);
  if (begins(0x89, 0x50)) return "image/png";
  if (begins(0xff, 0xd8)) return "image/jpeg";
  if (begins(0x47, 0x49)) return "image/gif";
  return begins(0x52, 0x49, 0x46, 0x46) ? "image/webp" : "application/octet-stream";
}

function dataUrl(bytes: Uint8Array, type: string): string {
  // In pieces, because a function call takes a limited number of arguments. A multiple of 3, so that base64 adds no padding inside.
  const step = 3 * 8192;
  let text = "";
  for (let at = 0; at < bytes.length; at += step) text += btoa(String.fromCharCode(...bytes.subarray(at, at + step)));
  return `data:${type};base64,${text}`;
}
