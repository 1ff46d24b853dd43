// Addresses: how messages show them, and texts that were meant as a file and not as an address.

/** Texts in messages are cut after this many characters: pages write messages into their logs. */
const LONGEST = 200;

/**
 * An address in the form in which messages show it: short, and without its query, fragment, name and password, because these may
 * contain signatures and keys.
 */
export function shown(address: URL | string): string {
  const text = String(address);
  const url = URL.parse(text);
  if (!url || !/^https?:$/.test(url.protocol)) return shortened(text);
  return shortened(`${url.origin}${url.pathname}${url.search ? "?…" : ""}`);
}

export const shortened = (text: string): string => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

/** How the files that people encode begin, as base64: PNG, JPEG, GIF, WebP or AVI, BMP, SVG and XML, MP4 and AVIF, WebM, PDF. */
const BEGINNINGS = /^(iVBORw0KGgo|\/9j\/|_9j_|R0lGOD|UklGR|Qk[0-3]|PHN2Zy|PD94bW|AAAA[\w+/-]{2}Z0eXB|GkXfo|JVBERi0)/;

/**
 * Whether a text is a file in base64 without `data:` in front, which would otherwise be requested as an address from the page's own
 * server. An address is seldom this long without a dot, a colon or a question mark.
 */
export function isBase64(text: string): boolean {
  if (text.length < 64 || !/^[\w+/\s-]+={0,2}\s*$/.test(text)) return false;
  return BEGINNINGS.test(text.trimStart()) || text.length > 1024;
}
