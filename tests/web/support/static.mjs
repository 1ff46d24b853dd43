// A folder on an origin of its own, with whatever headers a test wants: a content security policy, CORS, no types.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".wasm": "application/wasm",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".css": "text/css; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
};

/**
 * @param {string | ((path: string) => string)} folder
 * @param {Record<string, string>} headers sent with every answer
 * @returns {Promise<{ url: string, requests: string[], close(): void }>} `url` ends in "/"
 */
export async function serve(folder, headers = {}) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    requests.push(path);
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    if (request.method === "OPTIONS") return response.writeHead(204).end();
    const file = typeof folder === "string" ? join(folder, path.endsWith("/") ? `${path}index.html` : path) : folder(path);
    const found = await stat(file).catch(() => undefined);
    if (!found?.isFile()) return response.writeHead(404).end();
    response.setHeader("content-type", headers["content-type"] ?? TYPES[extname(file)] ?? "application/octet-stream");
    response.setHeader("accept-ranges", "bytes");
    response.setHeader("last-modified", found.mtime.toUTCString());
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const start = range ? Number(range[1]) : 0;
    const end = Math.min(range?.[2] ? Number(range[2]) : found.size - 1, found.size - 1);
    if (range && start > end) return response.writeHead(416, { "content-range": `bytes */${found.size}` }).end();
    const status = range ? 206 : 200;
    const part = range ? { "content-range": `bytes ${start}-${end}/${found.size}` } : {};
    response.writeHead(status, { "content-length": found.size === 0 ? 0 : end - start + 1, ...part });
    if (request.method === "HEAD" || found.size === 0) return response.end();
    createReadStream(file, { start, end }).pipe(response);
  });
  await new Promise((resolve) => server.listen(0, "localhost", resolve));
  const close = () => {
    server.close();
    server.closeAllConnections();
  };
  return { url: `http://localhost:${server.address().port}/`, requests, close };
}
