/** Downloads that are kept. */

const CACHE = "goldcrest-weights";

/** Fetches a file with progress, from the browser's cache if it is there and has not changed. */
export async function fetched(
  url: URL,
  progress?: (received: number, total: number | undefined) => void,
): Promise<Uint8Array> {
  // Pages without a secure context have no cache.
  const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
  const kept = await cache?.match(url);
  const tag = kept?.headers.get("etag");
  const response = await fetch(url, tag ? { headers: { "if-none-match": tag }, cache: "no-store" } : {}).catch((e) => {
    // Off line.
    if (kept) return kept;
    throw new Error(`${url}: ${e.message}`);
  });
  const answer = response.status === 304 && kept ? kept : response;
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${answer.statusText}`);
  const bytes = await received(answer, progress);
  if (answer !== kept && cache && response.headers.has("etag")) {
    // A full disk is no reason to fail.
    await cache.put(url, new Response(bytes as BodyInit, { headers: response.headers })).catch(() => undefined);
  }
  return bytes;
}

async function received(
  response: Response,
  progress?: (received: number, total: number | undefined) => void,
): Promise<Uint8Array> {
  if (!progress || !response.body) return new Uint8Array(await response.arrayBuffer());
  // With a content encoding the length is that of the encoded bytes.
  const length = response.headers.has("content-encoding") ? undefined : Number(response.headers.get("content-length"));
  const chunks: Uint8Array[] = [];
  let count = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    count += value.length;
    progress(count, length || undefined);
  }
  const bytes = new Uint8Array(count);
  chunks.reduce((at, chunk) => (bytes.set(chunk, at), at + chunk.length), 0);
  return bytes;
}
