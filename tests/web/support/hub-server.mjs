// Plays the Hub on this machine, on two origins: the endpoint, and the "CDN" that large files are redirected to. It counts
// what it serves, and misbehaves on demand.

import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const EXPOSED =
  "X-Repo-Commit, X-Request-Id, X-Error-Code, X-Error-Message, ETag, Link, Accept-Ranges, Content-Range, X-Linked-Size, X-Linked-ETag, Retry-After, RateLimit";
const CORS = { "access-control-allow-origin": "*", "access-control-expose-headers": EXPOSED };
/** Files from this size on are "large": redirected, and known by their sha256. */
const LARGE = 100_000;

export const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
export const gitOid = (bytes) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

/**
 * A server with one repository. `files` is a table of names to bytes. `large`: from how many bytes on files are redirected and known by
 * their sha256. `listed` may change what the list says of a file.
 *
 * `hub.fault`, if set, is called with each request `{ place: "hub" | "cdn", method, path, file, range, count }` (count: how
 * many there have been for this file at this place) and may return what goes wrong: `status` (with `headers`), `html`,
 * `cut` or `stall` after that many bytes, `shift` of the range, `flip` of the byte at that place of the file, `longer` (or with a
 * minus shorter) than the listing says, `noRanges`, `rate` in bytes a millisecond.
 */
export async function startHub(t, { repo = "Org/Model", commit = "0123456789abcdef0123456789abcdef01234567", files, api = true, token, pageSize = 3, large = LARGE, listed = (entry) => entry }) {
  const hub = { repo, commit, revisions: { main: commit }, requests: [], served: {}, fault: undefined };
  const names = Object.keys(files);
  const counts = new Map();

  const list = (request, response, url) => {
    const from = Number(url.searchParams.get("cursor") ?? 0);
    const page = names.slice(from, from + pageSize).map((path) => {
      const bytes = files[path];
      const lfs = bytes.length >= large ? { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 134 } } : {};
      return listed({ type: "file", oid: gitOid(bytes), size: bytes.length, path, ...lfs });
    });
    const headers = { "content-type": "application/json" };
    if (from + pageSize < names.length) {
      url.searchParams.set("cursor", from + pageSize);
      headers.link = `<${url.href}>; rel="next"`;
    }
    send(request, response, 200, headers, JSON.stringify([{ type: "directory", oid: "0", size: 0, path: "onnx" }, ...page]));
  };

  const answer = (place) => async (request, response) => {
    const url = new URL(request.url, `http://${request.headers.host}`);
    const { authorization, range } = request.headers;
    const path = url.pathname;
    if (request.method === "OPTIONS") {
      const headers = { "access-control-allow-headers": "authorization, range", "access-control-max-age": "600" };
      return send(request, response, 204, headers);
    }
    const resolve = new RegExp(`^/${repo}/resolve/([^/]+)/(.+)$`).exec(path);
    const file = place === "cdn" ? names.find((name) => path === `/blob/${sha256(files[name])}`) : resolve?.[2];
    const key = `${place} ${file ?? path}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
    const seen = { place, method: request.method, path, file, range, authorization, count: counts.get(key) };
    hub.requests.push(seen);
    const fault = (await hub.fault?.(seen)) ?? {};
    if (fault.status) return send(request, response, fault.status, fault.headers ?? {}, fault.body ?? "no");
    if (place === "hub" && token && authorization !== `Bearer ${token}`) {
      const headers = { "x-error-code": "GatedRepo", "x-error-message": "Access to this repository is restricted" };
      return send(request, response, 401, headers, "no");
    }
    if (place === "hub" && api && path.startsWith(`/api/models/${repo}/revision/`)) {
      const sha = hub.revisions[decodeURIComponent(path.split("/").at(-1))];
      return sha ? send(request, response, 200, { "content-type": "application/json" }, JSON.stringify({ id: repo, sha })) : none(request, response);
    }
    if (place === "hub" && api && path === `/api/models/${repo}/tree/${commit}`) return list(request, response, url);
    const known = place === "cdn" || [commit, ...Object.keys(hub.revisions)].includes(decodeURIComponent(resolve?.[1] ?? ""));
    if (!file || !files[file] || !known) return none(request, response);
    const linked = { "x-repo-commit": commit, "x-linked-size": files[file].length, "x-linked-etag": `"${sha256(files[file])}"` };
    if (place === "hub" && files[file].length >= large) {
      return send(request, response, 302, { ...linked, location: `${hub.cdn}/blob/${sha256(files[file])}?signature=${counts.get(key)}` });
    }
    return body(request, response, files[file], file, fault);
  };

  const body = async (request, response, bytes, file, fault) => {
    if (fault.html) return send(request, response, 200, { "content-type": "text/html; charset=utf-8" }, "<!doctype html><title>Sign in</title>");
    if (fault.flip !== undefined) {
      bytes = Buffer.from(bytes);
      bytes[fault.flip] ^= 1;
    }
    if (fault.longer) bytes = Buffer.concat([bytes, Buffer.alloc(Math.max(fault.longer, 0))]).subarray(0, bytes.length + fault.longer);
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "") ?? [];
    const ranged = first !== undefined && !fault.noRanges;
    const shift = fault.shift ?? 0;
    const start = ranged ? Number(first) + shift : 0;
    const end = ranged && last !== "" ? Math.min(Number(last) + 1 + shift, bytes.length) : bytes.length;
    if (ranged && start >= bytes.length) return send(request, response, 416, { "content-range": `bytes */${bytes.length}` });
    const headers = { ...CORS, "content-type": "application/octet-stream", "content-length": end - start, etag: `"${sha256(bytes).slice(0, 20)}"` };
    if (ranged) headers["content-range"] = `bytes ${start}-${end - 1}/${bytes.length}`;
    response.writeHead(ranged ? 206 : 200, headers);
    if (request.method === "HEAD") return response.end();
    const closed = once(response, "close");
    const stop = Math.min(end, start + (fault.cut ?? fault.stall ?? end));
    for (let at = start; at < stop && !response.destroyed; ) {
      const next = Math.min(stop, at + (fault.rate ? fault.rate * 5 : 256 * 1024));
      hub.served[file] = (hub.served[file] ?? 0) + next - at;
      if (!response.write(bytes.subarray(at, next))) {
        await Promise.race([once(response, "drain"), closed]);
      }
      at = next;
      if (fault.rate) await pause(5);
    }
    if (fault.cut !== undefined) return response.destroy();
    if (fault.stall === undefined) response.end();
  };

  const servers = [createServer(answer("hub")), createServer(answer("cdn"))];
  await Promise.all(servers.map((server) => new Promise((resolve) => server.listen(0, "localhost", resolve))));
  [hub.endpoint, hub.cdn] = servers.map((server) => `http://localhost:${server.address().port}`);
  hub.servers = [hub.endpoint, hub.cdn];
  hub.stop = () => servers.forEach((server) => (server.close(), server.closeAllConnections()));
  t.after(hub.stop);
  return hub;
}

function send(request, response, status, headers, text = "") {
  response.writeHead(status, { ...CORS, ...headers, "content-length": Buffer.byteLength(text) });
  response.end(request.method === "HEAD" ? undefined : text);
}

const none = (request, response) => send(request, response, 404, { "x-error-code": "EntryNotFound" }, "not found");
