// What is kept on this device, and who is trusted with it: servers that lie about their files, a disk that changes bytes, and storage
// that fails at any operation. In every case the load gives the right bytes or an error with a code, and the next load is right.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";

import { Sha1 } from "../../../www/dist/src/checkpoint/sha1.js";
import { FAKE } from "../support/demo-page.mjs";
import { BROWSER, open, withBrowser, withPackage } from "../support/helpers.mjs";
import { gitOid, sha256, startHub } from "../support/hub-server.mjs";

withBrowser();

const WEIGHTS = "model.safetensors";

/** A checkpoint of one file of weights, with other bytes each time. */
function checkpoint(bytes = 300_000, more = {}) {
  const weights = randomBytes(bytes);
  const plan = [{ file: WEIGHTS, start: 0, end: bytes }];
  return { files: { "config.json": Buffer.from(JSON.stringify({ model_type: "qwen2_5_vl", plan, ...more })), [WEIGHTS]: weights }, digest: sha256(weights) };
}

const tab = (t, hubs, options = {}) => open(t, { engine: "fake", servers: hubs.flatMap(({ servers }) => servers), ...options });

function loading(page, hub, options = {}) {
  return withPackage(page, async ({ load }, { repo, options }, caught) => {
    const loaded = await caught(load(repo, options));
    loaded.value?.destroy();
    return { ...loaded, digest: loaded.value?.info.digest, cache: loaded.value?.info.cache, value: undefined };
  }, { repo: hub.repo, options: { endpoint: hub.endpoint, ...options } });
}

test("the SHA-1 of bytes that arrive in pieces is that of all of them", () => {
  for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 100_001]) {
    const bytes = randomBytes(length);
    const sha1 = new Sha1();
    for (let at = 0; at < length; at += 37) sha1.update(bytes.subarray(at, at + 37));
    assert.equal(sha1.finish(), createHash("sha1").update(bytes).digest("hex"), `${length} bytes`);
  }
});

test("a server cannot put its bytes in the place of another server's file", async (t) => {
  const { files, digest } = checkpoint();
  const good = await startHub(t, { files, repo: "Good/Model" });
  // The lists of this server claim that its weights are the small and the large file of the other one.
  const evil = checkpoint(files["config.json"].length);
  const bad = await startHub(t, {
    repo: "Bad/Model",
    files: { ...evil.files, "other.safetensors": randomBytes(files[WEIGHTS].length) },
    listed: (entry) =>
      entry.path === WEIGHTS
        ? { ...entry, oid: gitOid(files["config.json"]), lfs: undefined }
        : entry.path === "other.safetensors"
          ? { ...entry, lfs: { oid: sha256(files[WEIGHTS]), size: files[WEIGHTS].length } }
          : entry,
  });
  const page = await tab(t, [good, bad]);
  const lie = await loading(page, bad);
  assert.equal(lie.code, "integrity", `${lie.digest}`);
  assert.match(lie.message, /git's sha1/);
  const first = await loading(page, good);
  assert.equal(first.digest, digest, first.message);
});

test("what a server sent of a file is not continued with another server's bytes", async (t) => {
  const { files, digest } = checkpoint(3_000_000);
  const good = await startHub(t, { files });
  const bad = await startHub(t, { files: { ...files, [WEIGHTS]: randomBytes(3_000_000) }, listed: (entry) => (entry.path === WEIGHTS ? { ...entry, lfs: { oid: sha256(files[WEIGHTS]), size: 3_000_000 } } : entry) });
  // Its address for large files is that of its own content.
  bad.fault = ({ place }) => (place === "cdn" ? { stall: 2_000_000 } : {});
  const page = await tab(t, [good, bad]);
  const stuck = await loading(page, bad, { timeoutMs: 300 });
  assert.ok(stuck.code, "it never sends the rest");
  const { digest: found, message } = await loading(page, good);
  assert.equal(found, digest, message);
});

test("weights that are listed by git's sha1 are verified too", async (t) => {
  const { files, digest } = checkpoint();
  const hub = await startHub(t, { files, large: Number.POSITIVE_INFINITY });
  hub.fault = ({ file }) => (file === WEIGHTS ? { flip: 5000 } : {});
  const page = await tab(t, [hub]);
  const { code, message } = await loading(page, hub);
  assert.equal(code, "integrity", message);
  hub.fault = undefined;
  assert.equal((await loading(page, hub)).digest, digest);
  assert.equal((await withPackage(page, async ({ models }) => models.list()))[0].complete, true);
});

/** Changes, halves or deletes a stored file: `folder` is "blobs" or "models". Returns the names of all of them. */
const harm = (page, folder, name, how) =>
  page.evaluate(
    async ([folder, name, how]) => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("fanlight");
      const place = await root.getDirectoryHandle(folder);
      if (!name) return Array.fromAsync(place.keys());
      if (how === "delete") return place.removeEntry(name);
      const handle = await place.getFileHandle(name);
      const bytes = new Uint8Array(await (await handle.getFile()).arrayBuffer());
      const writable = await handle.createWritable();
      if (how === "flip") bytes[bytes.length >> 1] ^= 1;
      if (how === "old") await writable.write(new TextDecoder().decode(bytes).replace(/"checked":\d+/g, '"checked":1'));
      else await writable.write(how === "half" ? bytes.subarray(0, bytes.length >> 1) : bytes);
      return writable.close();
    },
    [folder, name, how],
  );

test("a stored file that is changed, cut or deleted is noticed and downloaded again", async (t) => {
  const { files, digest } = checkpoint();
  const hub = await startHub(t, { files });
  const page = await tab(t, [hub]);
  assert.equal((await loading(page, hub)).digest, digest);
  for (const folder of ["blobs", "models"]) {
    for (const name of await harm(page, folder)) {
      for (const how of ["flip", "half", "delete"]) {
        // Weights that were checked in the last month are taken as they are, because hashing them takes longer than reading them.
        const weights = name.startsWith(sha256(files[WEIGHTS]));
        if (how === "flip" && weights && !name.endsWith(".journal")) await harm(page, folder, `${name}.journal`, "old");
        await harm(page, folder, name, how);
        const after = await loading(page, hub);
        if (how === "flip" && weights && !name.endsWith(".journal")) {
          assert.equal(after.code, "integrity", `${how} ${name}: ${after.digest}`);
          assert.equal((await loading(page, hub)).digest, digest);
        } else {
          assert.equal(after.digest, digest, `${how} ${name}: ${after.message}`);
        }
      }
    }
  }
  assert.equal((await loading(page, hub)).digest, digest);
  assert.equal((await withPackage(page, async ({ models }) => models.list())).length, 1);
});

/**
 * Before the fake engine: the storage call number `failAt` (all of them from there on, if `stays`) throws. Says on a channel how many
 * there have been.
 */
const FAILING = (failAt, stays) => `
  let count = 0;
  const said = new BroadcastChannel("storage");
  const fail = (name) => {
    said.postMessage(++count);
    if (count === ${failAt} || (${stays} && count >= ${failAt})) throw new DOMException("on order, in " + name, /write|truncate|flush/.test(name) ? "QuotaExceededError" : "InvalidStateError");
  };
  const classes = [
    [FileSystemSyncAccessHandle, ["read", "write", "truncate", "flush", "close", "getSize"]],
    [FileSystemFileHandle, ["getFile", "createSyncAccessHandle"]],
    [FileSystemDirectoryHandle, ["getFileHandle", "getDirectoryHandle", "removeEntry", "keys"]],
    [StorageManager, ["getDirectory"]],
  ];
  for (const [{ prototype }, names] of classes) {
    for (const name of names) {
      const own = prototype[name];
      const waits = prototype !== FileSystemSyncAccessHandle.prototype && name !== "keys";
      prototype[name] = function (...args) {
        try { fail(name); } catch (error) {
          // A handle that could not be closed is closed all the same: no browser leaves it open.
          if (name === "close") own.apply(this, args);
          if (waits) return Promise.reject(error);
          throw error;
        }
        return own.apply(this, args);
      };
    }
  }
`;

test("the storage operation number N fails, for every N: the load goes on without the disk, or says so with code io", async (t) => {
  const { files, digest } = checkpoint(120_000);
  const hub = await startHub(t, { files });
  const control = await tab(t, [hub], { path: "src/index.js" });
  let failAt = 0;
  let stays = false;
  const script = () => `globalThis.slowly = 0;${FAILING(failAt, stays)}${FAKE}`;
  await control.route("**/wasm/fanlight.js*", (route) => route.fulfill({ contentType: "text/javascript", body: script() }));
  await control.evaluate(() => (new BroadcastChannel("storage").onmessage = ({ data }) => (globalThis.operations = data)));
  const clear = () =>
    control.evaluate(async () => {
      for (let tries = 0; tries < 50; tries++) {
        try {
          return await (await navigator.storage.getDirectory()).removeEntry("fanlight", { recursive: true });
        } catch (error) {
          if (error.name === "NotFoundError") return;
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    });
  assert.equal((await loading(control, hub)).digest, digest);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const operations = await control.evaluate(() => globalThis.operations);
  assert.ok(operations > 30, `${operations} operations`);
  const seen = {};
  // Every operation in Chromium; some of them in Firefox, where the same code runs on another implementation of the storage.
  const step = BROWSER === "firefox" ? 6 : 1;
  for (stays of [false, true]) {
    for (let at = 1; at <= operations; at += stays ? 11 * step : step) {
      await clear();
      failAt = at;
      const first = await loading(control, hub);
      assert.ok(first.digest === digest || first.code === "io", `operation ${at}: ${first.code} ${first.message} ${first.digest}`);
      const how = first.code ?? first.cache.kind;
      seen[how] = (seen[how] ?? 0) + 1;
      // What is left is looked at now and then, which keeps this test short.
      if (at % 4 > 0) continue;
      failAt = 0;
      const second = await loading(control, hub);
      assert.equal(second.digest, digest, `after operation ${at}: ${second.code} ${second.message}`);
    }
  }
  t.diagnostic(`${operations} operations: ${JSON.stringify(seen)}`);
  assert.ok(seen.none > 0);
});

test("the network answer number N fails, for every N and in several ways: the load ends right, or with a code of the network", async (t) => {
  const { files, digest } = checkpoint(600_000);
  const hub = await startHub(t, { files });
  const page = await tab(t, [hub]);
  const clear = () => withPackage(page, async ({ models }) => models.remove("Org/Model"));
  let answers = 0;
  const ways = [{ status: 404 }, { html: true, noRanges: true }, { cut: 3 }, { status: 200, body: "{" }];
  for (const way of [undefined, ...ways]) {
    const total = way ? answers : 1;
    for (let at = 1; at <= total; at++) {
      let count = 0;
      hub.fault = () => {
        count++;
        return way && count === at ? { ...way, headers: { "retry-after": "0" } } : {};
      };
      const { code, message, digest: found } = await loading(page, hub, { timeoutMs: 1000 });
      if (!way) answers = count;
      assert.ok(found === digest || ["network", "not_found", "integrity", "cors"].includes(code), `${JSON.stringify(way)} at ${at}: ${code} ${message}`);
      hub.fault = undefined;
      if (code) {
        const again = await loading(page, hub);
        assert.equal(again.digest, digest, `after ${JSON.stringify(way)} at ${at}: ${again.code} ${again.message}`);
      }
      await clear();
    }
  }
  t.diagnostic(`${answers} answers`);
  assert.ok(answers >= 5);
});
