// Messages as they cross to the worker.

import { imageBytes } from "./media.js";
import type { WireMessage, WireVideo } from "./protocol.js";
import type { Message, Part } from "./types.js";
import { outgoing, type Outgoing, videoOptions } from "./video.js";

/** Messages as they cross to the worker: pictures become encoded bytes beside them, videos what the worker can take. */
export async function wire(messages: Message[]) {
  const images: Promise<Uint8Array>[] = [];
  const videos: Promise<Outgoing>[] = [];
  const wired = messages.map((message): WireMessage => {
    const { role, content, reasoning, toolCalls, toolCallId, prefix } = message;
    // `undefined` says nothing, and JSON leaves it out.
    const said = { role, reasoning, toolCalls, toolCallId, prefix };
    if (typeof content === "string") return { ...said, content };
    const parts = content.map((part: Part) => {
      if (part.type === "image") return { ...part, image: images.push(imageBytes(part.image)) - 1 };
      if (part.type === "video") return { ...videoOptions(part), type: part.type, video: videos.push(outgoing(part)) - 1 };
      return part;
    });
    return { ...said, content: parts };
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
