/** The WebAssembly module, of which there are two: with threads, and without. */
import * as single from "./wasm/goldcrest.js";

/**
 * Whether the CPU engine has threads. Their memory is shared, which browsers allow on cross-origin isolated pages, and
 * they wait for one another, which browsers allow in workers.
 */
export const threaded = globalThis.crossOriginIsolated === true && typeof document === "undefined";

/** The functions of the module in use. Valid after {@link start}. */
export let wasm = single;

let started: Promise<unknown> | undefined;

/** Loads the module, once. Everything that needs it calls this; an earlier call saves time. */
export function start(): Promise<unknown> {
  return (started ??= loaded());
}

async function loaded(): Promise<void> {
  // Of the same functions; the types of internal ones differ.
  if (threaded) wasm = (await import("./wasm/threads/goldcrest.js")) as unknown as typeof single;
  await wasm.default();
}
