// The page's service worker. It caches all files of one version of the page, so that the page opens offline. It does not touch
// requests to other origins.
// The build (`node xtask/precache.mjs www/dist`) writes VERSION and FILES: every file of the page with its sha256.

const VERSION = "";
const FILES = {};

const NAME = `fanlight-page-${self.registration.scope}-`;
const cacheName = NAME + VERSION;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(clear()));
self.addEventListener("message", (event) => event.waitUntil(takeOver(event.ports[0])));
self.addEventListener("fetch", (event) => {
  const file = fileOf(event.request);
  if (file !== undefined) event.respondWith(answer(event.request, file));
});

/** Caches all files, or fails. If the hash of a file is wrong, the server is changing to another version just now. */
async function install() {
  if (VERSION === "") throw new Error("this build has no list of files");
  const cache = await caches.open(cacheName);
  for (const [file, sha256] of Object.entries(FILES)) {
    if (usable(await cache.match(file))) continue;
    await cache.put(file, await fetched(file, sha256));
  }
}

/**
 * A file with the right hash. Hosts with clean addresses redirect `index.html` to the folder, so a page is requested as its folder
 * first. A response that was redirected may not answer a navigation, which is why the file is put into a response of its own.
 */
async function fetched(file, sha256) {
  const folder = file.replace(/(^|\/)index\.html$/, "$1") || "./";
  let problem;
  for (const address of new Set([folder, file])) {
    const response = await fetch(new Request(address, { cache: "no-cache" }));
    const bytes = await response.arrayBuffer();
    if (!response.ok) problem = `${address}: ${response.status}`;
    else if ((await hash(bytes)) !== sha256) problem = `${address} is of another version`;
    else return new Response(bytes, { headers: kept(response.headers) });
  }
  throw new Error(problem);
}

/** The headers of a response without those that describe how it was sent. */
function kept(headers) {
  const own = new Headers(headers);
  for (const name of ["content-encoding", "content-length", "transfer-encoding"]) own.delete(name);
  return own;
}

/** Whether a cached response may answer any request. Earlier versions of this script have cached redirected ones. */
const usable = (response) => response !== undefined && !response.redirected;

async function hash(bytes) {
  const digest = await crypto.subtle.digest("SHA-256", bytes);
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function clear() {
  const old = (await caches.keys()).filter((name) => name.startsWith(NAME) && name !== cacheName);
  await Promise.all(old.map((name) => caches.delete(name)));
}

/** Activates this version, unless another tab still uses the version before. */
async function takeOver(port) {
  // Open tabs are clients of the version before, not of this one, so include uncontrolled clients.
  const all = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const tabs = all.filter(({ url }) => url.startsWith(self.registration.scope));
  if (tabs.length > 1) port?.postMessage("others");
  else await self.skipWaiting();
}

/** The cached file that a request asks for, if there is one. */
function fileOf({ method, url, mode }) {
  if (method !== "GET" || !url.startsWith(self.registration.scope)) return undefined;
  const path = new URL(url).pathname.slice(new URL(self.registration.scope).pathname.length);
  if (mode === "navigate" && /(^|\/)$/.test(path)) return Object.hasOwn(FILES, `${path}index.html`) ? `${path}index.html` : undefined;
  return Object.hasOwn(FILES, path) ? path : undefined;
}

async function answer(request, file) {
  const found = await caches.open(cacheName).then((cache) => cache.match(file), () => undefined);
  // The browser may have removed the file from the cache, or the cache may fail.
  if (!usable(found)) return fetch(request);
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.get("range") ?? "");
  if (!range) return found;
  const blob = await found.blob();
  const [start, last] = [Number(range[1]), range[2] ? Math.min(Number(range[2]), blob.size - 1) : blob.size - 1];
  if (start > last) return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${blob.size}` } });
  const headers = new Headers(found.headers);
  headers.set("Content-Range", `bytes ${start}-${last}/${blob.size}`);
  headers.set("Content-Length", String(last - start + 1));
  return new Response(blob.slice(start, last + 1), { status: 206, headers });
}
