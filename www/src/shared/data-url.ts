// Decodes data: URLs without fetch, because the Content-Security-Policy of most pages (connect-src) does not allow fetch for
// them.

/** The bytes of a data: URL. Both alphabets of base64 are read. Throws if it is not a data: URL. */
export function dataBytes(url: string): Uint8Array<ArrayBuffer> {
  const [, base64, body] = /^data:[^,]*?(;\s*base64)?,([^#]*)/is.exec(url) ?? [];
  if (body === undefined) throw new Error("not a data: URL");
  const bytes = percentDecoded(body);
  if (base64 === undefined) return bytes;
  // The alphabet that is meant for addresses has - and _ instead of + and /.
  const text = atob(new TextDecoder("latin1").decode(bytes).replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(text, (character) => character.charCodeAt(0));
}

function percentDecoded(text: string): Uint8Array<ArrayBuffer> {
  // Characters outside ASCII stand for their UTF-8 bytes. A % that is not followed by two hex digits stands for itself.
  const bytes = new TextEncoder().encode(text);
  let end = 0;
  for (let i = 0; i < bytes.length; i++) {
    const hex = bytes[i] === 0x25 ? String.fromCharCode(...bytes.subarray(i + 1, i + 3)) : "";
    const escaped = /^[0-9a-f]{2}$/i.test(hex);
    bytes[end++] = escaped ? Number.parseInt(hex, 16) : (bytes[i] ?? 0);
    if (escaped) i += 2;
  }
  return bytes.slice(0, end);
}
