// Every source of a picture arrives as what it is: files as their own bytes, pixels to the last bit, and what may not be read as
// an error that says so. The fake engine gives back what it got; the real one reads these BMPs in src/image/decode.rs.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { fakeModel } from "../support/fake-model.mjs";
import { caught, notInFirefox, open, withBrowser } from "../support/helpers.mjs";
import { serve } from "../support/static.mjs";

withBrowser();

const PNG = fileURLToPath(new URL("../../../www/public-sample/sample-screen.png", import.meta.url));
/** 16×8, left (199, 41, 90), right (10, 121, 239) as Pillow 12 decodes what it has encoded in 4:4:4 with quality 100. */
const AVIF =
  "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADrbWV0YQAAAAAAAAAhaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAAAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAETAAAAKwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAAEAAAAAgAAAAQcGl4aQAAAAADCAgIAAAADGF2MUOBIAAAAAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAM21kYXQSAAoIOAy/sICGg0gyHRAAALb8MouTDLSy0rDlpXjglw1s2KYbN53BvimY";

/** Runs `body` with `read(source)`: what the engine gets of it, as a file's bytes or as upright pixels; or the error. */
async function reading(t, body, argument, more = {}) {
  const page = await fakeModel(t, more);
  const code = `async (argument) => {
    const { load } = await import("/src/index.js");
    const caught = ${caught};
    const model = await load("/models/fake/");
    const seen = (file) => {
      const bytes = new Uint8Array(file);
      const view = new DataView(bytes.buffer);
      if (view.getUint16(0) !== 0x424d) return { file: [...bytes] };
      const [at, width, height] = [view.getUint32(10, true), view.getInt32(18, true), -view.getInt32(22, true)];
      return { width, height, rgba: [...bytes.subarray(at)], masks: [54, 58, 62, 66].map((i) => view.getUint32(i, true)) };
    };
    const ask = async (session, image, text = "?") => {
      const { files } = await session.prompt([{ role: "user", content: [{ type: "image", image }, { type: "text", text }] }]);
      return seen(files[0]);
    };
    const read = async (image) => {
      const { value, ...error } = await caught(model.session().then((session) => ask(session, image)));
      return value ?? error;
    };
    return (${body})({ read, model, ask }, argument);
  }`;
  return page.evaluate(`(${code})(${JSON.stringify(argument) ?? "undefined"})`);
}

test("a picture with a file behind it arrives as that file", async (t) => {
  const file = [...(await readFile(PNG))];
  const seen = await reading(t, async ({ read }) => {
    const address = "/public-sample/sample-screen.png";
    const blob = await (await fetch(address)).blob();
    const bytes = await blob.arrayBuffer();
    const data = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(blob);
    });
    const percent = `data:image/png,${Array.from(new Uint8Array(bytes), (byte) => `%${byte.toString(16).padStart(2, "0")}`).join("")}`;
    const image = new Image(3, 3);
    image.srcset = `${address} 2x, ${address} 1x`;
    await image.decode();
    const late = new Image();
    late.src = address;
    const inside = new Uint8Array(bytes.byteLength + 9);
    inside.set(new Uint8Array(bytes), 4);
    const sources = {
      blob, file: new File([blob], "a.png"), bytes, view: inside.subarray(4, 4 + bytes.byteLength), address, data, percent,
      url: new URL(address, location.href), object: URL.createObjectURL(blob), image, late,
    };
    const seen = {};
    for (const [name, source] of Object.entries(sources)) seen[name] = await read(source);
    return seen;
  });
  for (const [name, got] of Object.entries(seen)) {
    assert.equal(got.message, undefined, name);
    assert.ok(Buffer.from(got.file).equals(Buffer.from(file)), name);
  }
});

/** Whether these are the pixels, at this size. */
const is = (got, rgba, width = 64, height = 32) => {
  assert.deepEqual([got.message, got.width, got.height], [undefined, width, height]);
  assert.deepEqual(got.masks, [0xff, 0xff00, 0xff0000, 0xff000000]);
  assert.deepEqual(got.rgba, rgba);
};

test("pixels arrive to the last bit, at their own size, with the alpha that they have", async (t) => {
  const seen = await reading(t, async ({ read }) => {
    const translucent = new ImageData(64, 32);
    for (let i = 0; i < 64 * 32; i++) translucent.data.set([i, i >> 3, 255 - i, (i * 5) >> 3], 4 * i);
    const opaque = new ImageData(translucent.data.slice(), 64, 32);
    for (let i = 3; i < opaque.data.length; i += 4) opaque.data[i] = 255;
    const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 32 });
    canvas.getContext("2d").putImageData(opaque, 0, 0);
    const offscreen = new OffscreenCanvas(64, 32);
    offscreen.getContext("2d").putImageData(translucent, 0, 0);
    const own = offscreen.getContext("2d").getImageData(0, 0, 64, 32).data;
    const format = { format: "RGBA", codedWidth: 64, codedHeight: 32, timestamp: 0 };
    const frame = new VideoFrame(opaque.data, format);
    const part = new VideoFrame(opaque.data, { ...format, visibleRect: { x: 8, y: 4, width: 16, height: 2 } });
    const turned = new VideoFrame(opaque.data, { ...format, rotation: 90 });
    const gone = new VideoFrame(opaque.data, format);
    gone.close();
    const seen = {
      translucent: [...translucent.data],
      opaque: [...opaque.data],
      own: [...own],
      imageData: await read(translucent),
      opaqueBitmap: await read(await createImageBitmap(opaque)),
      canvas: await read(canvas),
      offscreen: await read(offscreen),
      frame: await read(frame),
      again: await read(frame),
      part: await read(part),
      turned: turned.rotation === 90 ? await read(turned) : undefined,
      gone: await read(gone),
      closed: await createImageBitmap(opaque).then((bitmap) => (bitmap.close(), read(bitmap))),
    };
    for (const one of [frame, part, turned]) one.close();
    return seen;
  });
  is(seen.imageData, seen.translucent);
  is(seen.offscreen, seen.own);
  for (const name of ["opaqueBitmap", "canvas", "frame", "again"]) is(seen[name], seen.opaque);
  const pixel = (x, y) => seen.opaque.slice(4 * (64 * y + x), 4 * (64 * y + x) + 4);
  const made = (width, height, at) =>
    Array.from({ length: width * height }, (_, i) => pixel(...at(i % width, Math.floor(i / width)))).flat();
  is(seen.part, made(16, 2, (x, y) => [8 + x, 4 + y]), 16, 2);
  if (seen.turned) is(seen.turned, made(32, 64, (x, y) => [y, 31 - x]), 32, 64);
  assert.equal(seen.gone.code, "bad_image");
  assert.equal(seen.closed.code, "bad_image");
});

const premultiplied = notInFirefox("the pixels of a bitmap come back multiplied by their alpha there, whatever the bitmap was made with");

test("a bitmap with alpha arrives to the last bit", premultiplied, async (t) => {
  const seen = await reading(t, async ({ read }) => {
    const translucent = new ImageData(64, 32);
    for (let i = 0; i < 64 * 32; i++) translucent.data.set([i, i >> 3, 255 - i, (i * 5) >> 3], 4 * i);
    const bitmap = await createImageBitmap(translucent, { premultiplyAlpha: "none", colorSpaceConversion: "none" });
    return { translucent: [...translucent.data], bitmap: await read(bitmap) };
  });
  is(seen.bitmap, seen.translucent);
});

test("what is shown when the prompt is made is what is read, also when its turn comes later", async (t) => {
  const seen = await reading(t, async ({ model, ask }) => {
    const color = ({ rgba, width, height }) => [width, height, ...rgba.slice(0, 4)];
    const canvas = new OffscreenCanvas(20, 10);
    const gl = canvas.getContext("webgl2");
    // Firefox without a screen has no WebGL; a plain canvas stands in for it there.
    const flat = gl ? undefined : canvas.getContext("2d");
    const paint = (red, green, blue) => {
      gl?.clearColor(red / 255, green / 255, blue / 255, 1);
      gl?.clear(gl.COLOR_BUFFER_BIT);
      if (flat) flat.fillStyle = `rgb(${red}, ${green}, ${blue})`;
      flat?.fillRect(0, 0, 20, 10);
    };
    paint(255, 0, 51);
    const plane = Object.assign(document.createElement("canvas"), { width: 20, height: 10 });
    const context = plane.getContext("2d");
    context.fillStyle = "rgb(1, 200, 3)";
    context.fillRect(0, 0, 20, 10);
    const session = await model.session();
    const first = ask(session, canvas);
    const second = ask(session, plane);
    paint(0, 0, 0);
    context.fillStyle = "black";
    context.fillRect(0, 0, 20, 10);

    context.fillStyle = "rgb(250, 10, 20)";
    context.fillRect(0, 0, 20, 10);
    const video = document.createElement("video");
    Object.assign(video, { muted: true, srcObject: plane.captureStream() });
    const loaded = new Promise((resolve) => video.addEventListener("loadeddata", resolve, { once: true }));
    const before = await ask(await model.session(), video).catch(({ code, hint }) => ({ code, hint }));
    video.play();
    const timer = setInterval(() => context.fillRect(0, 0, 20, 10), 20);
    await loaded;
    const shown = await ask(await model.session(), video);
    clearInterval(timer);
    return { first: color(await first), second: color(await second), before, shown: color(shown) };
  });
  assert.deepEqual(seen.first, [20, 10, 255, 0, 51, 255]);
  assert.deepEqual(seen.second, [20, 10, 1, 200, 3, 255]);
  assert.equal(seen.before.code, "bad_image");
  assert.match(seen.before.hint, /loadeddata/);
  assert.deepEqual(seen.shown.slice(0, 2), [20, 10]);
  // As a video: with half of the colours' resolution, and rounded on the way.
  [250, 10, 20, 255].forEach((value, i) => assert.ok(Math.abs(value - seen.shown[2 + i]) <= 6, `${seen.shown}`));
});

test("what the engine cannot decode and the browser can is decoded at its own size", async (t) => {
  const seen = await reading(t, async ({ read }, base64) => {
    const avif = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
    const svg = '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="60" height="40">' +
      '<rect width="60" height="40" fill="#0a64c8"/><rect x="10" y="8" width="20" height="16" fill="#ffdc00"/></svg>';
    const image = new Image(6, 4);
    image.src = `data:image/svg+xml,${encodeURIComponent(svg)}`;
    const huge = avif.slice();
    const at = String.fromCharCode(...huge).indexOf("ispe");
    new DataView(huge.buffer).setUint32(at + 8, 20_000);
    new DataView(huge.buffer).setUint32(at + 12, 20_000);
    return {
      avif: await read(avif),
      svg: await read(new Blob([svg])),
      image: await read(image),
      hugeAvif: await read(huge),
      hugeSvg: await read(new Blob([svg.replace('"60"', '"20000"').replace('"40"', '"20000"')])),
      hugeCanvas: await read(new OffscreenCanvas(9000, 8000)),
      none: await read(new Blob(["no picture at all"])),
      object: await read({}),
      nothing: await read(null),
    };
  }, AVIF);
  const pixel = ({ rgba, width }, x, y) => rgba.slice(4 * (width * y + x), 4 * (width * y + x) + 4);
  assert.deepEqual([seen.avif.width, seen.avif.height], [16, 8], JSON.stringify(seen.avif).slice(0, 300));
  for (const [x, rgb] of [[0, [199, 41, 90]], [15, [10, 121, 239]]]) {
    pixel(seen.avif, x, 4).slice(0, 3).forEach((value, i) => assert.ok(Math.abs(value - rgb[i]) <= 2, `${pixel(seen.avif, x, 4)}`));
  }
  for (const drawn of [seen.svg, seen.image]) {
    assert.deepEqual([drawn.width, drawn.height], [60, 40]);
    assert.deepEqual(pixel(drawn, 0, 0), [0x0a, 0x64, 0xc8, 255]);
    assert.deepEqual(pixel(drawn, 10, 8), [0xff, 0xdc, 0, 255]);
    assert.deepEqual(pixel(drawn, 29, 23), [0xff, 0xdc, 0, 255]);
    assert.deepEqual(pixel(drawn, 30, 24), [0x0a, 0x64, 0xc8, 255]);
  }
  for (const huge of [seen.hugeAvif, seen.hugeSvg, seen.hugeCanvas]) {
    assert.equal(huge.code, "bad_image");
    assert.match(`${huge.message} ${huge.hint}`, /64 megapixels/);
  }
  assert.equal(seen.none.code, "bad_image");
  assert.equal(seen.object.code, "bad_request");
  assert.equal(seen.nothing.code, "bad_request");
});

test("base64 without data: is refused and asked of nobody; both alphabets of base64 are read in a data: address", async (t) => {
  const asked = [];
  const png = (await readFile(PNG)).toString("base64");
  const jpeg = `/9j/4AAQSkZJRgABAQAAAQABAAD/${"A".repeat(5000)}`;
  const setup = (page) => page.on("request", (request) => asked.push(request.url()));
  const seen = await reading(t, async ({ read, model }, [png, jpeg]) => {
    const session = await model.session();
    const video = (text) => session.prompt([{ role: "user", content: [{ type: "video", video: text }, { type: "text", text: "?" }] }]).then(() => ({}), ({ code, message }) => ({ code, message }));
    const chat = (url) => model.chat.completions.create({ messages: [{ role: "user", content: [{ type: "image_url", image_url: { url } }] }] }).then(() => ({}), ({ code, message }) => ({ code, message }));
    const safe = png.replaceAll("+", "-").replaceAll("/", "_");
    return {
      refused: [await read(png), await read(jpeg), await read(`${jpeg.slice(0, 76)}\n${jpeg.slice(76)}`), await read("x".repeat(2000)), await chat(png), await read("  "), await video(png), await video(`AAAAIGZ0eXBpc29t${"A".repeat(100)}`), await video("")],
      safe: await read(`data:image/png;base64,${safe}`),
      plain: await read(`data:image/png;base64,${png}`),
      broken: await read("data:image/png;base64,@@@"),
      path: await read("/no/such/picture-with-quite-a-long-name-that-is-still-a-path-and-not-base64"),
    };
  }, [png, jpeg], { setup });
  for (const { code, message } of seen.refused) {
    assert.equal(code, "bad_request", message);
    assert.ok(message.length < 300, message);
  }
  assert.deepEqual(asked.filter((url) => /iVBOR|9j|xxxx|ftyp|AAAA/.test(url) && !url.startsWith("data:")), []);
  assert.ok(seen.safe.file, JSON.stringify(seen.safe));
  assert.deepEqual(seen.safe, seen.plain);
  assert.equal(seen.broken.code, "bad_image");
  assert.match(seen.broken.hint, /base64/);
  assert.equal(seen.path.code, "not_found");
});

test("an SVG is read whatever stands before it, with foreign objects, and at the size of its viewBox", async (t) => {
  const seen = await reading(t, async ({ read, model }) => {
    const svg = (attributes, inside) => `<svg xmlns="http://www.w3.org/2000/svg" ${attributes}>${inside}</svg>`;
    const green = '<rect width="100%" height="100%" fill="#00aa00"/>';
    const utf16 = (text, order) => {
      const bytes = new Uint8Array(2 * text.length + 2);
      [...`\ufeff${text}`].forEach((character, i) => new DataView(bytes.buffer).setUint16(2 * i, character.charCodeAt(0), order));
      return bytes;
    };
    const size = async (attributes) => {
      const content = [{ type: "image", image: new Blob([svg(attributes, green)]) }, { type: "text", text: "?" }];
      const { images } = await (await model.session()).prompt([{ role: "user", content }]);
      return [images[0].original.width, images[0].original.height];
    };
    const sized = svg('width="30" height="20"', green);
    const foreign = svg('width="30" height="20"', '<foreignObject width="30" height="20"><div xmlns="http://www.w3.org/1999/xhtml" style="width:30px;height:20px;background:#00aa00"></div></foreignObject>');
    return {
      small: [await read(new Blob([foreign])), await read(new Blob([`<!--${"x".repeat(9000)}-->\n<?xml-stylesheet?>${sized}`])), await read(utf16(sized, true)), await read(utf16(sized, false)), await read(new Blob([`<!DOCTYPE svg [<!ENTITY a "b">]>${sized}`]))],
      view: [await size('viewBox="0 0 120 80"'), await size('viewBox="0 0 1200 800" width="100%"'), await size('viewBox="0 0 100000 50000"')],
      text: await read(new Blob(["<html><svg></svg></html>"])),
      endless: await read(new Blob([`<!--${"<!--".repeat(100_000)}`])),
    };
  });
  for (const [i, { width, height, rgba, message }] of seen.small.entries()) {
    assert.deepEqual([width, height], [30, 20], `${i}: ${message}`);
    assert.deepEqual(rgba.slice(0, 4), [0, 0xaa, 0, 255], `${i}`);
  }
  // The smallest is drawn as large as the browser shows it, the largest at most 4096 pixels wide.
  assert.deepEqual(seen.view, [[225, 150], [1200, 800], [4096, 2048]]);
  for (const { code } of [seen.text, seen.endless]) assert.equal(code, "bad_image");
});

test("a picture that may not be read is an error that says why", async (t) => {
  const closed = await serve(() => PNG);
  const open = await serve(() => PNG, { "access-control-allow-origin": "*" });
  const gone = await serve(() => PNG);
  gone.close();
  t.after(() => (closed.close(), open.close()));
  const servers = [closed, open, gone].map(({ url }) => new URL(url).origin);
  const seen = await reading(t, async ({ read }, [closed, open, gone]) => {
    const shown = async (src, crossOrigin) => {
      const image = new Image();
      if (crossOrigin) image.crossOrigin = crossOrigin;
      image.src = src;
      await image.decode().catch(() => {});
      return image;
    };
    const tainted = new OffscreenCanvas(5, 5);
    tainted.getContext("2d").drawImage(await shown(`${closed}a.png`), 0, 0);
    return {
      address: await read(`${closed}b.png`),
      image: await read(await shown(`${closed}c.png`)),
      canvas: await read(tainted),
      allowed: await read(`${open}d.png`),
      allowedImage: await read(await shown(`${open}e.png`, "anonymous")),
      gone: await read(`${gone}f.png`),
      missing: await read("/no-such-picture.png"),
      broken: await read(await shown("/no-such-picture.png")),
      revoked: await read("blob:http://localhost/0"),
      empty: await read(new Image()),
    };
  }, [closed.url, open.url, gone.url], { servers, path: "public-sample/sample-screen.png" });
  for (const name of ["address", "image", "canvas"]) {
    assert.equal(seen[name].code, "cors", `${name}: ${seen[name].message}`);
    assert.match(seen[name].hint, /Access-Control-Allow-Origin/);
  }
  assert.ok(seen.allowed.file.length > 0 && seen.allowedImage.file.length > 0);
  assert.equal(seen.gone.code, "network");
  for (const name of ["missing", "broken"]) {
    assert.equal(seen[name].code, "not_found");
    assert.match(seen[name].message, /404/);
  }
  assert.equal(seen.revoked.code, "bad_image");
  assert.equal(seen.empty.code, "bad_image");
});
