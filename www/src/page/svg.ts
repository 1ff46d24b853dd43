// Draws SVG files as the browser shows them. Whether bytes are an SVG is decided by how the file begins, in UTF-8 or UTF-16.

import { FanlightError } from "../errors.js";
import type { Size } from "../types.js";

/** How far a file is searched for its first element. Comments and declarations may come before it. */
const SEARCHED = 1 << 20;
/** An SVG without a size of its own is drawn with at most this many pixels on its longer side, however large its units are. */
const LONGEST_SIDE = 4096;

/** The text of an SVG file; nothing if the bytes are something else. */
export function svgText(bytes: Uint8Array): string | undefined {
  const [a, b] = bytes;
  const encoding = a === 0xff && b === 0xfe ? "utf-16le" : a === 0xfe && b === 0xff ? "utf-16be" : b === 0 ? "utf-16le" : a === 0 ? "utf-16be" : "utf-8";
  const begin = new TextDecoder(encoding).decode(bytes.subarray(0, SEARCHED));
  if (!/^\s*</.test(begin)) return undefined;
  // One thing after another, because one expression for all of it could take very long for a hostile file.
  let rest = begin.trimStart();
  for (;;) {
    const end = rest.startsWith("<?") ? rest.indexOf("?>") + 2 : rest.startsWith("<!--") ? rest.indexOf("-->", 4) + 3 : doctype(rest);
    if (end === 0) break;
    if (end < 4) return undefined;
    rest = rest.slice(end).trimStart();
  }
  return /^<([\w.-]+:)?svg[\s>/]/i.test(rest) ? new TextDecoder(encoding).decode(bytes) : undefined;
}

/** Where a document type ends; 0 if there is none here. It may contain declarations in brackets. */
function doctype(text: string): number {
  if (!/^<!doctype/i.test(text)) return 0;
  const [close, bracket] = [text.indexOf(">"), text.indexOf("[")];
  if (bracket < 0 || bracket > close) return close + 1;
  const after = text.indexOf("]", bracket);
  return after < 0 ? 0 : text.indexOf(">", after) + 1;
}

/**
 * An `<img>` that shows an SVG, and its size in pixels. `address` makes an address of the file's text; the caller revokes it.
 */
export async function svgImage(text: string, address: (text: string) => string): Promise<{ image: HTMLImageElement; size: Size }> {
  const { text: sized, size: own } = withSize(text);
  const image = new Image();
  image.src = address(sized);
  await image.decode().catch(() => {
    throw new FanlightError("bad_image", "this SVG cannot be shown", "If the page has a Content-Security-Policy, it must allow img-src blob: and data:.");
  });
  const size = own ?? { width: image.naturalWidth, height: image.naturalHeight };
  if (size.width === 0 || size.height === 0) {
    throw new FanlightError("bad_image", "this SVG has no size", "Set its width and height in pixels.");
  }
  return { image, size };
}

/**
 * An SVG that has only a `viewBox` would be drawn 300 pixels wide at most. Its author chose units in which the drawing can be
 * read, so it gets the size of its `viewBox`, if that is larger.
 */
function withSize(text: string): { text: string; size?: Size } {
  const document = new DOMParser().parseFromString(text, "image/svg+xml");
  const root = document.documentElement;
  if (root.localName !== "svg" || document.querySelector("parsererror")) return { text };
  const absolute = (name: string) => /^\s*[\d.]/.test(root.getAttribute(name) ?? "") && !/%\s*$/.test(root.getAttribute(name) ?? "");
  if (absolute("width") || absolute("height")) return { text };
  const [, , width = 0, height = 0] = (root.getAttribute("viewBox") ?? "").trim().split(/[\s,]+/).map(Number);
  if (!(width > 0 && height > 0 && Number.isFinite(width * height))) return { text };
  const shown = Math.min(300 / width, 150 / height);
  const scale = Math.min(Math.max(1, shown), LONGEST_SIDE / Math.max(width, height));
  const size = { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  root.setAttribute("width", String(size.width));
  root.setAttribute("height", String(size.height));
  return { text: new XMLSerializer().serializeToString(document), size };
}
