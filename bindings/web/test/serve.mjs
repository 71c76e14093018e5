// A server for the tests: the repository's files, with entity tags.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../../", import.meta.url));

const TYPES = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
  ".css": "text/css",
  ".json": "application/json",
  ".png": "image/png",
  ".svg": "image/svg+xml",
  ".wasm": "application/wasm",
};

/** Headers with which a page is cross-origin isolated. */
export const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

/** Serves a folder, with more headers. Returns its URL, the requests so far, and a function that ends it. */
export async function serve(folder = root, more = {}) {
  const requests = [];
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://host").pathname));
    const headers = { "content-type": TYPES[extname(path)] ?? "application/octet-stream", "cache-control": "no-cache", "access-control-allow-origin": "*", ...more };
    if (path === "/") {
      // An empty page for tests that import modules.
      response.writeHead(200, { "content-type": "text/html", ...more }).end("<!doctype html><title>test</title>");
      return;
    }
    try {
      const body = await readFile(join(folder, path.endsWith("/") ? `${path}index.html` : path));
      const etag = `"${createHash("sha256").update(body).digest("hex").slice(0, 16)}"`;
      const same = request.headers["if-none-match"] === etag;
      requests.push({ path, status: same ? 304 : 200 });
      response.writeHead(same ? 304 : 200, { ...headers, etag, ...(!same && { "content-length": body.length }) });
      response.end(same ? undefined : body);
    } catch {
      requests.push({ path, status: 404 });
      response.writeHead(404, { "content-type": "text/plain" }).end("not found");
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return { url: `http://127.0.0.1:${server.address().port}/`, requests, close: () => server.close() };
}
