/** Downloads that are kept. */

const CACHE = "goldcrest-weights";

/** Statuses that say that a server has no such file. Some stores answer 403. */
const ABSENT = [403, 404, 410];

/** Fetches a file with progress, from the browser's cache if it is there and has not changed. */
export async function fetched(
  url: URL,
  progress?: (received: number, total: number | undefined) => void,
): Promise<Uint8Array> {
  const { answer, keep } = await answered(url);
  if (!answer.ok) throw refusal(url, answer);
  const bytes = await received(answer, progress);
  // Without a tag it would be fetched each time all the same.
  if (answer.headers.has("etag")) await keep(bytes as BodyInit, { headers: answer.headers });
  return bytes;
}

/**
 * Fetches a text, which is kept for use off line only. Undefined if it is `optional` and the server has none: that is
 * kept too, so that weights have the same configuration off line.
 */
export async function fetchedText(url: string | URL, optional: boolean): Promise<string | undefined> {
  const { answer, keep } = await answered(url);
  // Some servers answer with a page if there is no such file.
  const isPage = answer.ok && answer.headers.get("content-type")?.includes("html") === true;
  if (optional && (isPage || ABSENT.includes(answer.status))) {
    await keep(null, { status: 404 });
    return undefined;
  }
  if (isPage) throw new Error(`${url}: is an HTML page`);
  if (!answer.ok) throw refusal(url, answer);
  const text = await answer.text();
  // Without its tag, so that the next request is a plain one.
  await keep(text);
  return text;
}

/** The error of an answer without a file. */
function refusal(url: string | URL, { status, statusText }: Response): Error {
  return new Error(`${url}: ${status} ${statusText}`);
}

/** An answer, and a function that keeps a response in its place. */
interface Answer {
  answer: Response;
  keep: (body: BodyInit | null, options?: ResponseInit) => Promise<void>;
}

/** Asks the server for a file. The answer is the kept one if that has not changed, or off line. */
async function answered(url: string | URL): Promise<Answer> {
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
  const keep = async (body: BodyInit | null, options?: ResponseInit) => {
    // A full disk is no reason to fail.
    if (answer !== kept) await cache?.put(url, new Response(body, options)).catch(() => undefined);
  };
  return { answer, keep };
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
