/** Networks from files. */
import { fetched, fetchedText } from "./fetch.js";
import { start, wasm } from "./module.js";
import type { Network } from "./wasm/goldcrest.js";

/** Options of {@link load}. */
export interface LoadOptions {
  /** The name of the network in its library, if the file does not show it. */
  arch?: string;
  /** The text or URL of `config.json`. By default, the file of that name next to a URL, if there is one. */
  config?: string | URL | null;
  /** The text or URL of `preprocessor_config.json`. */
  preprocessor?: string | URL | null;
  /** Called while the weights arrive, with the number of bytes and their total, if known. */
  progress?: (received: number, total: number | undefined) => void;
}

/**
 * Loads a network from a URL, a file or its bytes: safetensors or PyTorch. Files from URLs are kept in the
 * browser's cache, and are fetched again only if they have changed.
 */
export async function load(from: string | URL | Blob | BufferSource, options: LoadOptions = {}): Promise<Network> {
  const isUrl = typeof from === "string" || from instanceof URL;
  const url = isUrl ? new URL(from, globalThis.location?.href) : undefined;
  // A blob: or data: URL has no file name, and nothing is next to it.
  const place = url && !["blob:", "data:"].includes(url.protocol) ? url : undefined;
  const [bytes, config, preprocessor] = await Promise.all([
    url ? fetched(url, options.progress) : bytesOf(from as Blob | BufferSource),
    text(options.config, place && new URL("config.json", place)),
    text(options.preprocessor),
    start(),
  ]);
  const name = place?.pathname.split("/").pop() || (from instanceof File ? from.name : "weights");
  const safetensors = isSafetensors(bytes) ? bytes : await converted(name, bytes);
  return new wasm.Network(name, safetensors, config, preprocessor, options.arch);
}

/** Whether these are the bytes of a safetensors file: a length in eight bytes, then JSON. */
function isSafetensors(bytes: Uint8Array): boolean {
  return bytes[8] === "{".charCodeAt(0);
}

/** Converts a PyTorch file. Its reader is loaded only now. */
async function converted(name: string, bytes: Uint8Array): Promise<Uint8Array> {
  const { default: init, toSafetensors } = await import("./wasm/torch.js");
  await init();
  return toSafetensors(name, bytes);
}

async function bytesOf(from: Blob | BufferSource): Promise<Uint8Array> {
  if (from instanceof Blob) return new Uint8Array(await from.arrayBuffer());
  return ArrayBuffer.isView(from) ? new Uint8Array(from.buffer, from.byteOffset, from.byteLength) : new Uint8Array(from);
}

/** A text that is given or at a URL; `fallback` may be missing. */
async function text(given: string | URL | null | undefined, fallback?: URL): Promise<string | undefined> {
  if (given === null) return undefined;
  if (typeof given === "string" && given.trimStart().startsWith("{")) return given;
  const url = given ?? fallback;
  return url ? fetchedText(url, !given) : undefined;
}
