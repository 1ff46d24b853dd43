// Loading from the Hub, played by hub-server.mjs: what is asked, what is kept, and what becomes of a server, a disk or a
// tab that fails. The fake engine reads what its config.json says and tells the sha256 of all it got.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { test } from "node:test";

import { notInFirefox, open, withBrowser, withPackage } from "../support/helpers.mjs";
import { sha256, startHub } from "../support/hub-server.mjs";

withBrowser();

const MIB = 1 << 20;

/** A checkpoint of two shards, of which the engine reads all but some holes, the second one's end first. */
function checkpoint(mib = 3) {
  const shards = [randomBytes(mib * MIB + 12_345), randomBytes(mib * MIB)];
  const plan = [];
  const add = (shard, from, to) => {
    for (let start = from; start < to; start += MIB) {
      plan.push({ file: `model-0000${shard + 1}-of-00002.safetensors`, start, end: Math.min(to, start + MIB) });
    }
  };
  add(1, (mib / 2) * MIB, shards[1].length);
  add(0, 1000, shards[0].length);
  add(1, 0, (mib / 2) * MIB - 70_000);
  const files = {
    "README.md": Buffer.from("# nothing the engine wants"),
    "config.json": Buffer.from(JSON.stringify({ model_type: "qwen2_5_vl", plan })),
    "model-00001-of-00002.safetensors": shards[0],
    "model-00002-of-00002.safetensors": shards[1],
  };
  const digest = sha256(Buffer.concat(plan.map(({ file, start, end }) => files[file].subarray(start, end))));
  return { files, digest, large: shards[0].length + shards[1].length };
}

/** Opens a page that may ask this hub. */
const tab = (t, hub, options = {}) => open(t, { engine: "fake", servers: hub.servers, ...options });

/** Loads in the page; gives info and phases, or the error. */
function loading(page, hub, options = {}) {
  return withPackage(page, async ({ load }, { repo, options }, caught) => {
    const events = [];
    const loaded = await caught(load(repo, { ...options, onProgress: (event) => events.push(event) }));
    loaded.value?.destroy();
    return { ...loaded, info: loaded.value?.info, value: undefined, events };
  }, { repo: hub.repo, options: { endpoint: hub.endpoint, ...options } });
}

const kept = (page) => withPackage(page, async ({ models }) => ({ list: await models.list(), size: await models.size() }));
const served = (hub) => Object.entries(hub.served).reduce((sum, [file, n]) => sum + (/safetensors|gguf/.test(file) ? n : 0), 0);

test("a repository is looked up, pinned, fetched once and kept", async (t) => {
  const { files, digest, large } = checkpoint();
  const hub = await startHub(t, { files });
  const page = await tab(t, hub);
  const first = await loading(page, hub);
  assert.equal(first.info?.digest, digest, first.message);
  assert.equal(first.info.commit, hub.commit);
  assert.equal(first.info.cache.kind, "opfs", first.info.cache.reason);
  assert.ok(first.info.cache.networkBytes >= large);
  assert.equal(served(hub), large, "every byte once, holes included, for the hash");
  assert.ok(hub.requests.every(({ path }) => path.includes("/revision/") || path.includes(hub.commit) || path.startsWith("/blob/")));

  assert.equal(first.events[0].phase, "resolve");
  const download = first.events.filter(({ phase }) => phase === "download");
  const last = download.at(-1);
  assert.equal(last.loaded, last.total);
  assert.equal(last.total, large);
  assert.equal(last.fromCache, false);
  assert.deepEqual(last.files.map(({ total }) => total).sort(), Object.values(files).slice(2).map((f) => f.length).sort());

  const { list, size } = await kept(page);
  assert.equal(list.length, 1);
  const { model, commit, revisions, complete, bytes } = list[0];
  assert.deepEqual({ model, commit, revisions, complete }, { model: hub.repo, commit: hub.commit, revisions: ["main"], complete: true });
  assert.equal(bytes, large + files["config.json"].length);
  assert.equal(size, bytes);

  // Again: one question, which commit `main` is.
  hub.requests.length = 0;
  const again = await loading(page, hub);
  assert.equal(again.info.digest, digest);
  assert.equal(again.info.cache.networkBytes, 0);
  assert.deepEqual(hub.requests.map(({ path }) => path), [`/api/models/${hub.repo}/revision/main`]);
  assert.ok(again.events.filter(({ phase }) => phase === "download").every(({ fromCache }) => fromCache));

  // By commit: none at all. And with the server gone, what `main` was last time.
  hub.requests.length = 0;
  assert.equal((await loading(page, hub, { revision: hub.commit })).info.digest, digest);
  assert.equal(hub.requests.length, 0);
  hub.stop();
  assert.equal((await loading(page, hub)).info?.digest, digest);
});

test("a new commit is fetched; what it shares with the old one is not", async (t) => {
  const { files, digest } = checkpoint();
  const hub = await startHub(t, { files });
  const page = await tab(t, hub);
  await loading(page, hub);
  const second = await startHub(t, { files: { ...files, "README.md": Buffer.from("# new") }, commit: "f".repeat(40) });
  const other = await tab(t, second, { beside: page, servers: [...second.servers, ...hub.servers] });
  const { info } = await loading(other, second);
  assert.equal(info.digest, digest);
  assert.equal(served(second), 0, "the same content has the same name, whoever gives it out");
  const { list } = await kept(other);
  assert.equal(list.length, 2);
});

// engine/formats asks the same of the real engine, where nothing is intercepted.
const redirected = notInFirefox("Playwright, which intercepts requests here, hands their headers on to where they are redirected; Firefox by itself does not");

test("a token goes to the endpoint alone, and is not stored", redirected, async (t) => {
  const { files, digest } = checkpoint();
  const hub = await startHub(t, { files, token: "hf_secret" });
  const page = await tab(t, hub);
  const without = await loading(page, hub);
  assert.equal(without.code, "auth");
  assert.match(without.message, /GatedRepo/);
  assert.match(without.hint, /token/);
  const { info, message } = await loading(page, hub, { token: "hf_secret" });
  assert.equal(info?.digest, digest, message);
  assert.ok(hub.requests.some(({ place }) => place === "cdn"));
  assert.ok(hub.requests.filter(({ place }) => place === "cdn").every(({ authorization }) => authorization === undefined));
  const stored = await page.evaluate(async () => {
    const texts = [];
    const walk = async (folder) => {
      for await (const handle of folder.values()) {
        if (handle.kind === "directory") await walk(handle);
        else if (/json/.test(handle.name)) texts.push(await (await handle.getFile()).text());
      }
    };
    await walk(await navigator.storage.getDirectory());
    return texts.join("\n");
  });
  assert.ok(stored.includes(hub.commit) && !stored.includes("hf_secret"));
});

const firstOf = (fault, times = 1) => ({ place, count }) => (place === "cdn" && count <= times ? fault : {});
for (const [what, fault, options] of [
  ["cuts connections", ({ place, count }) => (place === "cdn" && count % 3 !== 0 ? { cut: 700_000 } : {})],
  ["stalls", firstOf({ stall: 300_000 }), { timeoutMs: 400 }],
  ["is overloaded", firstOf({ status: 503 }, 2)],
  ["asks for patience", firstOf({ status: 429, headers: { "retry-after": "0" } }, 3)],
  ["asks for patience in the newer form", firstOf({ status: 429, headers: { ratelimit: '"api";r=0;t=0' } }, 3)],
  ["sends another range than asked for", firstOf({ shift: 5 })],
  ["sends whole files only", () => ({ noRanges: true })],
  ["sends whole files only, in pieces", ({ place, count }) => (place === "cdn" && count <= 2 ? { noRanges: true, cut: 900_000 } : { noRanges: true })],
]) {
  for (const cache of ["opfs", "none"]) {
    test(`a server that ${what} (${cache === "none" ? "nothing kept" : "kept"})`, async (t) => {
      const { files, digest } = checkpoint();
      const hub = await startHub(t, { files });
      hub.fault = fault;
      const page = await tab(t, hub);
      const { info, code, message } = await loading(page, hub, { ...options, cache });
      assert.equal(info?.digest, digest, `${code}: ${message}`);
      assert.equal(info.cache.kind, cache);
    });
  }
}

const NAME = "model-00001-of-00002.safetensors";
for (const [what, fault, expected, pattern] of [
  ["keeps a file to itself", ({ file }) => (file === NAME ? { status: 403 } : {}), "auth", /403/],
  ["has lost a file", ({ place, file }) => (place === "cdn" && file === NAME ? { status: 404 } : {}), "not_found", /404/],
  ["sends a login page", ({ file }) => (file === NAME ? { html: true, noRanges: true } : {}), "network", /web page/, ],
  ["has grown a file", ({ file }) => (file === NAME ? { longer: 1000 } : {}), "integrity", /should have/],
  ["has shrunk a file", ({ file }) => (file === NAME ? { longer: -1000 } : {}), "integrity", /should have/],
  ["has shrunk a file and knows no ranges", ({ file }) => (file === NAME ? { longer: -1000, noRanges: true } : {}), "integrity", /should have/],
  ["has damaged a file", ({ file }) => (file === NAME ? { flip: 2_000_000 } : {}), "integrity", /sha256/],
  ["has damaged a small file", ({ file }) => (file === "config.json" ? { flip: 5 } : {}), "integrity", /config.json.*sha1/],
  ["is down", () => ({ status: 503, headers: { "retry-after": "0" } }), "network", /503/],
  ["has no such repository", () => ({ status: 404 }), "not_found", /Org\/Model/],
]) {
  test(`a server that ${what} ends the load with "${expected}", and nothing wrong is kept`, async (t) => {
    const { files, digest } = checkpoint();
    const hub = await startHub(t, { files });
    hub.fault = fault;
    const page = await tab(t, hub);
    const { code, message } = await loading(page, hub);
    assert.equal(code, expected, message);
    assert.match(message, pattern);
    hub.fault = undefined;
    const healed = await loading(page, hub);
    assert.equal(healed.info?.digest, digest, healed.message);
  });
}

test("a server with files and no lists will do", async (t) => {
  const { files, digest } = checkpoint();
  const hub = await startHub(t, { files, api: false });
  const page = await tab(t, hub);
  const { info, message } = await loading(page, hub);
  assert.equal(info?.digest, digest, message);
  assert.equal(info.commit, undefined);
  const before = served(hub);
  assert.equal((await loading(page, hub)).info.digest, digest);
  assert.ok(served(hub) - before <= 2 * 256 * 1024, "only the beginnings, to see whether they are still the same");
});

test("a tab killed at some byte leaves what it has fetched", async (t) => {
  const { files, digest, large } = checkpoint(12);
  const hub = await startHub(t, { files });
  hub.fault = () => ({ rate: 8 * 1024 });
  const page = await tab(t, hub);
  for (const _ of [1, 2, 3]) {
    const before = served(hub);
    const goal = 3 * MIB + Math.random() * 3 * MIB;
    const killed = await tab(t, hub, { beside: page });
    const died = loading(killed, hub).catch(() => "dead");
    while (served(hub) - before < goal) await new Promise((resolve) => setTimeout(resolve, 5));
    await killed.close();
    assert.equal(await died, "dead");
  }
  const { list } = await kept(page);
  assert.equal(list[0].complete, false);
  const safe = await page.evaluate(async () => {
    const blobs = await (await (await navigator.storage.getDirectory()).getDirectoryHandle("fanlight")).getDirectoryHandle("blobs");
    let bytes = 0;
    for await (const [name, handle] of blobs) {
      if (!/^[0-9a-f]{64}\.journal$/.test(name)) continue;
      const lines = (await (await handle.getFile()).text()).split("\n").filter((line) => line.startsWith("["));
      // Ranges of one request follow on each other; none is written twice.
      for (const [start, end] of lines.map((line) => JSON.parse(line))) bytes += end - start;
    }
    return bytes;
  });
  const before = served(hub);
  hub.fault = undefined;
  const { info, message } = await loading(page, hub);
  assert.equal(info?.digest, digest, message);
  t.diagnostic(`${large} bytes: ${before} served to three tabs that died, ${safe} of them safe, ${served(hub) - before} to the fourth`);
  assert.ok(safe > MIB, `${safe} bytes are safe`);
  assert.equal(served(hub) - before, large - safe, "what is safe is not fetched again, to the byte");
});

test("two tabs that load one model fetch it once", async (t) => {
  const { files, digest, large } = checkpoint(6);
  const hub = await startHub(t, { files });
  hub.fault = () => ({ rate: 16 * 1024 });
  const one = await tab(t, hub);
  const two = await tab(t, hub, { beside: one });
  const [a, b] = await Promise.all([loading(one, hub), loading(two, hub)]);
  assert.equal(a.info?.digest, digest, a.message);
  assert.equal(b.info?.digest, digest, b.message);
  // Both look at the beginnings before either has the lock.
  assert.ok(served(hub) < large + 8 * 256 * 1024, `${served(hub)} of ${large}`);
});

const quota = notInFirefox("only Chromium's DevTools protocol can give a page a small quota");

test("a full disk ends in memory, and says so", quota, async (t) => {
  const { files, digest } = checkpoint(6);
  const hub = await startHub(t, { files });
  const page = await tab(t, hub);
  const cdp = await page.context().newCDPSession(page);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize: 5 * MIB });
  const { info, code, message } = await loading(page, hub);
  assert.equal(info?.digest, digest, `${code}: ${message}`);
  assert.equal(info.cache.kind, "none");
  assert.match(info.cache.reason, /is not kept: .*[Qq]uota/);
  await cdp.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin });
  assert.equal((await loading(page, hub)).info?.cache.kind, "opfs");
});

test("kept models are listed and removed, but not from under a load", async (t) => {
  const { files } = checkpoint();
  const hub = await startHub(t, { files });
  const page = await tab(t, hub);
  await loading(page, hub);
  hub.fault = () => ({ rate: 8 * 1024 });
  const other = await startHub(t, { repo: "Org/Other", files: checkpoint(6).files });
  other.fault = () => ({ rate: 4 * 1024 });
  const busy = await tab(t, other, { beside: page });
  const slow = loading(busy, other);
  while (served(other) < MIB) await new Promise((resolve) => setTimeout(resolve, 5));
  const refused = await withPackage(page, async ({ models }, _, caught) => caught(models.remove("Org/Other")));
  assert.equal(refused.code, "busy");
  await withPackage(page, ({ models }) => models.remove("Org/Model"));
  assert.equal((await slow).info.cache.kind, "opfs");
  assert.deepEqual((await kept(page)).list.map(({ model, complete }) => [model, complete]), [["Org/Other", true]]);
  await withPackage(page, async ({ models }) => models.remove((await models.list())[0]));
  assert.deepEqual(await kept(page), { list: [], size: 0 });
  const left = await page.evaluate(async () => {
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("fanlight");
    return Array.fromAsync((await root.getDirectoryHandle("blobs")).keys());
  });
  assert.deepEqual(left, []);
});

test("a browser without such storage loads all the same", async (t) => {
  const { files, digest } = checkpoint();
  const hub = await startHub(t, { files });
  const before = "navigator.storage.getDirectory = () => Promise.reject(new DOMException('private', 'SecurityError'));";
  const page = await tab(t, hub, { before });
  const { info, message } = await loading(page, hub);
  assert.equal(info?.digest, digest, message);
  assert.equal(info.cache.kind, "none");
  assert.match(info.cache.reason, /private/);
});

test("files that a person picks, and folders, are read where they are", async (t) => {
  const { files, digest } = checkpoint();
  const page = await open(t, { engine: "fake" });
  await page.setContent("<input type=file multiple>");
  const chosen = Object.entries(files).map(([name, buffer]) => ({ name, mimeType: "application/octet-stream", buffer }));
  await page.locator("input").setInputFiles(chosen);
  const [picked, folder] = await withPackage(page, async ({ load }) => {
    const { files } = document.querySelector("input");
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("mine", { create: true });
    for (const file of files) {
      const writable = await (await root.getFileHandle(file.name, { create: true })).createWritable();
      await writable.write(file);
      await writable.close();
    }
    const infos = [];
    for (const source of [files, root]) {
      const model = await load(source);
      model.destroy();
      infos.push(model.info);
    }
    return infos;
  });
  assert.equal(picked.digest, digest);
  assert.equal(folder.digest, digest);
});

test("names that are none are refused before anything is asked", async (t) => {
  const page = await open(t, { engine: "fake" });
  const codes = await withPackage(page, async ({ load }, _, caught) => {
    const tries = [{ revision: "../x" }, { revision: "a b" }, { endpoint: "ftp://x" }, { endpoint: "https://u:p@x/" }, { endpoint: "http://" }];
    return Promise.all(tries.map((options) => caught(load("Org/Model", options)).then(({ code }) => code)));
  });
  assert.deepEqual(codes, Array(5).fill("bad_request"));
});

test("several models in one repository: the caller names one", async (t) => {
  const golden = (file) => readFile(new URL(`../../golden/${file}`, import.meta.url));
  const [gguf, tower] = await Promise.all([golden("gguf/base.gguf"), golden("gguf/base-mmproj.gguf")]);
  const hub = await startHub(t, { files: { "a-Q8_0.gguf": gguf, "b-F32.gguf": gguf, "mmproj-F16.gguf": tower, "mmproj-Q8_0.gguf": tower } });
  const page = await open(t, { servers: hub.servers });
  const vague = await loading(page, hub);
  assert.equal(vague.code, "bad_request");
  assert.match(vague.message, /a-Q8_0\.gguf, b-F32\.gguf/);
  const { info, message } = await loading(page, hub, { gguf: "b-F32.gguf" });
  assert.equal(info?.modelType, "qwen2_5_vl", message);
  assert.ok(info.cache.networkBytes >= gguf.length + tower.length);
  const asked = hub.requests.filter(({ place, file }) => place === "hub" && file).map(({ file }) => file);
  assert.deepEqual([...new Set(asked)].sort(), ["b-F32.gguf", "mmproj-F16.gguf"]);
});

test("an importance matrix is no model, and a vision encoder is one however it is spelled", async (t) => {
  const { findGguf } = await import("../../../www/dist/src/checkpoint/gguf.js");
  assert.deepEqual(findGguf(["base-Q4_K_M.gguf", "imatrix_unsloth.gguf", "MMPROJ-F16.gguf"]), { gguf: "base-Q4_K_M.gguf", mmproj: "MMPROJ-F16.gguf" });
  assert.deepEqual(findGguf(["a.imatrix.gguf", "a.GGUF"]), { gguf: "a.GGUF" });
  assert.throws(() => findGguf(["a.gguf", "b.gguf"]), { code: "bad_request" });
});

test("availability: asked of the network only where nothing is kept, and true of what load does", async (t) => {
  const { files } = checkpoint();
  const hub = await startHub(t, { files });
  // Not the empty page: one that never came over a socket may not ask this machine for anything.
  const page = await tab(t, hub, { path: "src/index.js" });
  const ask = (model = hub.repo, options = {}) =>
    withPackage(
      page,
      async ({ availability }, { model, options }, caught) => caught(availability(model, options)),
      { model, options: { endpoint: hub.endpoint, timeoutMs: 2000, ...options } },
    );
  const about = (model = hub.repo) =>
    withPackage(page, async ({ models }, model) => ({ cached: await models.isCached(model), files: await models.files(model) }), model);
  const begin = await ask();
  assert.equal(begin.value, "downloadable", begin.message);
  assert.equal((await ask("org/nothing-there")).value, "unavailable");
  assert.deepEqual(await about(), { cached: false, files: [] });

  // A tab stops in the middle: what it has is kept, and so is who is at it.
  const address = `${hub.endpoint}/${hub.repo}/resolve/main/`;
  hub.fault = () => ({ rate: 4 * 1024 });
  for (const model of [hub.repo, address]) {
    const before = served(hub);
    const other = await tab(t, hub, { beside: page });
    const died = loading(other, { ...hub, repo: model }).catch(() => {});
    while (served(hub) - before < 2 * MIB) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.equal((await ask(model)).value, "downloading");
    await other.close();
    await died;
    // Its locks go a moment after it.
    for (let said; said !== "downloadable"; said = (await ask(model)).value) assert.ok([undefined, "downloading"].includes(said), said);
    const half = await about(model);
    assert.equal(half.cached, false);
    const cut = half.files.filter(({ file, bytes, size }) => /safetensors/.test(file) && bytes < size);
    assert.ok(cut.length > 0 && cut.every(({ complete, needed }) => !complete && needed), JSON.stringify(half.files));
  }
  hub.fault = undefined;

  await loading(page, hub);
  const before = hub.requests.length;
  assert.equal((await ask()).value, "available");
  assert.equal((await ask(hub.repo, { revision: hub.commit })).value, "available");
  const whole = await about();
  assert.equal(hub.requests.length, before, "nobody was asked");
  assert.equal(whole.cached, true);
  assert.deepEqual(whole.files.map(({ file, complete }) => [file, complete]).sort(), Object.keys(files).map((file) => [file, file !== "README.md"]).sort());
  assert.equal((await ask(hub.repo, { cache: "none" })).value, "downloadable", "what is kept is not used then");
  assert.equal((await ask(hub.repo, { gguf: "other.gguf" })).value, "downloadable");
  assert.equal((await ask(address)).value, "downloadable");
  await loading(page, { ...hub, repo: address });
  assert.equal((await ask(address)).value, "available");
  assert.equal((await about(address)).cached, true);
  assert.equal((await ask("not a name")).value, "unavailable", "an address with nothing at it");
  const gone = await withPackage(page, async ({ availability }, repo) => {
    Object.defineProperty(navigator, "gpu", { value: undefined });
    return availability(repo);
  }, hub.repo);
  assert.equal(gone, "unavailable");
});
