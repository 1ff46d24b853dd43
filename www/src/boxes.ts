// Boxes out of an answer: the model writes them in pixels of the picture as it saw it; a page wants the picture's own.

import type { ImageInfo } from "./types.js";

export interface Box {
  x: number;
  y: number;
  width: number;
  height: number;
  label: string;
}

/** The `bbox_2d` objects of a text, in pixels of the original picture. Tolerates fences, prose and a cut-off end. */
export function boxes(text: string, image: Pick<ImageInfo, "original" | "resized">): Box[] {
  const found: Box[] = [];
  for (const [source] of text.matchAll(/\{[^{}]*"bbox_2d"[^{}]*\}/g)) {
    const item = parsed(source);
    const corners = item?.["bbox_2d"];
    if (!Array.isArray(corners) || corners.length !== 4 || !corners.every(Number.isFinite)) continue;
    const [sx, sy] = [image.original.width / image.resized.width, image.original.height / image.resized.height];
    const [x1, y1, x2, y2] = corners as [number, number, number, number];
    const clamp = (value: number, most: number) => Math.min(Math.max(value, 0), most);
    const left = clamp(Math.min(x1, x2) * sx, image.original.width);
    const top = clamp(Math.min(y1, y2) * sy, image.original.height);
    const right = clamp(Math.max(x1, x2) * sx, image.original.width);
    const bottom = clamp(Math.max(y1, y2) * sy, image.original.height);
    const label = item?.["label"] ?? item?.["text_content"] ?? "";
    found.push({ x: left, y: top, width: right - left, height: bottom - top, label: String(label) });
  }
  return found;
}

function parsed(source: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(source) as Record<string, unknown>;
  } catch {
    return undefined;
  }
}
