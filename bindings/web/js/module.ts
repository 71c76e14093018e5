/** The WebAssembly module. */
import init from "./wasm/goldcrest.js";

let started: Promise<unknown> | undefined;

/** Loads the module, once. Everything that needs it calls this; an earlier call saves time. */
export function start(): Promise<unknown> {
  return (started ??= init());
}
