// Pictures that EXIF turns, in formats that browsers do not turn by themselves: the page shows them as the model sees them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32, deflateSync } from "node:zlib";

import { chooseFile, demo, ready, shows } from "../support/demo-page.mjs";
import { withBrowser } from "../support/helpers.mjs";

withBrowser();

/** EXIF with nothing but the orientation. */
function exif(orientation) {
  const bytes = Buffer.alloc(26);
  bytes.write("II*\0", 0, "latin1");
  bytes.writeUInt32LE(8, 4);
  bytes.writeUInt16LE(1, 8);
  bytes.writeUInt16LE(0x0112, 10);
  bytes.writeUInt16LE(3, 12);
  bytes.writeUInt32LE(1, 14);
  bytes.writeUInt16LE(orientation, 18);
  return bytes;
}

/** A PNG of 4×2 pixels whose first pixel is white and whose others are black. */
function png(orientation) {
  const chunk = (name, data) => {
    const body = Buffer.concat([Buffer.from(name), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.from([0, 0, 0, 4, 0, 0, 0, 2, 8, 0, 0, 0, 0]);
  const rows = deflateSync(Buffer.from([0, 255, 0, 0, 0, 0, 0, 0, 0, 0]));
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), chunk("IHDR", head), chunk("eXIf", exif(orientation)), chunk("IDAT", rows), chunk("IEND", Buffer.alloc(0))]);
}

/** A WebP of 2×1 pixels that is to be turned to the right. `prefix`: as some programs write EXIF there. */
function webp(prefix = "") {
  const chunk = (name, data) => {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(data.length);
    return Buffer.concat([Buffer.from(name), length, data, Buffer.alloc(data.length & 1)]);
  };
  const body = Buffer.concat([
    Buffer.from("WEBP"),
    chunk("VP8X", Buffer.from([8, 0, 0, 0, 1, 0, 0, 0, 0, 0])),
    chunk("VP8L", Buffer.from("2f0100000088880800", "hex")),
    chunk("EXIF", Buffer.concat([Buffer.from(prefix, "latin1"), exif(6)])),
  ]);
  return Buffer.concat([chunk("RIFF", body)]);
}

/** Where the first pixel of the file is in the upright picture: column and row (EXIF 2.32, table 6). */
const CORNER = { 1: [0, 0], 2: [3, 0], 3: [3, 1], 4: [0, 1], 5: [0, 0], 6: [1, 0], 7: [1, 3], 8: [0, 3] };

test("pictures are shown upright", async (t) => {
  const page = await demo(t);
  await ready(page);
  const files = [
    ...Object.keys(CORNER).map((turn) => ({ name: `turn-${turn}.png`, mimeType: "image/png", buffer: png(Number(turn)) })),
    { name: "turn.webp", mimeType: "image/webp", buffer: webp() },
    { name: "prefixed.webp", mimeType: "image/webp", buffer: webp("Exif\0\0") },
  ];
  for (const file of files) {
    await chooseFile(page, "Add a picture or a video", file);
    await shows(page, file.name);
    const { width, height, white } = await page.locator("#image").evaluate(async (image) => {
      await image.decode();
      const { naturalWidth: width, naturalHeight: height } = image;
      const context = new OffscreenCanvas(width, height).getContext("2d");
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, width, height);
      const at = Array.from({ length: width * height }, (_, i) => data[4 * i]).findIndex((value) => value > 127);
      return { width, height, white: [at % width, Math.floor(at / width)] };
    });
    const turn = Number(/turn-(\d)/.exec(file.name)?.[1]);
    if (!turn) assert.deepEqual([width, height], [1, 2], file.name);
    else assert.deepEqual([width, height, ...white], [...(turn < 5 ? [4, 2] : [2, 4]), ...CORNER[turn]], file.name);
  }
});
