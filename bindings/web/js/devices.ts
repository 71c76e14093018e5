/** The browser's devices. All sessions share them, and with them compiled pipelines. */
import { Device } from "./wasm/goldcrest.js";

let opened: Promise<Device> | undefined;
let processor: Device | undefined;

/** The GPU. Rejects if the browser has no WebGPU adapter. */
export function gpu(): Promise<Device> {
  if (!opened) {
    opened = Device.gpu();
    // A later call tries again.
    opened.catch(() => (opened = undefined));
  }
  return opened;
}

/** The CPU. */
export function cpu(): Device {
  return (processor ??= Device.cpu());
}

/** Gives up a GPU that is lost, unless another session has done so. */
export async function giveUp(lost: Device): Promise<void> {
  if ((await opened?.catch(() => undefined)) === lost) opened = undefined;
}
