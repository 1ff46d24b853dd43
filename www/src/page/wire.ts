// Converts messages into the form in which they are sent to the worker.

import type { WireMessage, WireVideo } from "../protocol.js";
import type { ImagePart, Message, Part, Sizes, ToolCall } from "../types.js";
import { imageBytes } from "./media.js";
import { outgoing, type Outgoing, videoOptions } from "./video.js";

/** A message whose pictures are being read. */
export type Taken = Omit<Message, "content"> & {
  content: string | (Exclude<Part, ImagePart> | (Omit<ImagePart, "image"> & { image: Promise<Uint8Array> }))[];
};

/**
 * Starts to read the pictures of messages now, because what a canvas or a video shows may change before the prompt is run.
 */
export function take(input: string | (Message | Taken)[]): Taken[] {
  const messages: (Message | Taken)[] = typeof input === "string" ? [{ role: "user", content: input }] : input;
  return messages.map(({ content, ...message }): Taken => {
    if (typeof content === "string") return { ...message, content };
    const parts = content.map((part) => {
      if (part.type !== "image") return part;
      const image = imageBytes(part.image);
      // The error is reported when the prompt is run.
      image.catch(() => {});
      return { ...part, image };
    });
    return { ...message, content: parts };
  });
}

/**
 * Messages in the form in which they are sent to the worker: pictures become encoded bytes, videos become sources that the
 * worker can read.
 */
export async function wire(messages: (Message | Taken)[]) {
  const images: Promise<Uint8Array>[] = [];
  const videos: Promise<Outgoing>[] = [];
  const wired = messages.map(({ content, toolCalls, ...others }): WireMessage => {
    const rest = { ...others, ...(toolCalls && { toolCalls: toolCalls.map(wireCall) }) };
    if (typeof content === "string") return { ...rest, content };
    const parts = content.map((part) => {
      if (part.type === "image") return { ...part, image: images.push(imageBytes(part.image)) - 1 };
      if (part.type === "video") return { ...videoOptions(part), type: part.type, video: videos.push(outgoing(part)) - 1 };
      return part;
    });
    return { ...rest, content: parts };
  });
  const release = async () => {
    for (const video of await Promise.allSettled(videos)) if (video.status === "fulfilled") video.value.release();
  };
  try {
    const [out, bytes] = await Promise.all([Promise.all(videos), Promise.all(images)]);
    return {
      messages: wired,
      images: bytes,
      videos: out.map(({ video }): WireVideo => video),
      transfer: out.flatMap(({ transfer }) => transfer),
      release,
    };
  } catch (error) {
    await release();
    throw error;
  }
}

/** A call with the arguments as the model wrote them, if that is known: a number above 2^53 changes when JavaScript reads it. */
function wireCall({ id, name, arguments: args, argumentsText }: ToolCall) {
  return { id, name, arguments: argumentsText ?? args };
}

/** Only the fields that can be sent to the worker. */
export const sizes = ({ original, resized }: Sizes): Sizes => ({ original, resized });
