/** The browser's devices. All sessions share them, and with them compiled pipelines. */
import { threaded, wasm } from "./module.js";
import { startThreads } from "./threads.js";
import type { Device } from "./wasm/goldcrest.js";

let opened: Promise<Device> | undefined;
let processor: Promise<Device> | undefined;

/** The GPU. Rejects if the browser has no WebGPU adapter. */
export function gpu(): Promise<Device> {
  if (!opened) {
    opened = wasm.Device.gpu().then(withoutAborts);
    // A later call tries again.
    opened.catch(() => (opened = undefined));
  }
  return opened;
}

/** The CPU, with a thread per core where there can be threads. */
export function cpu(): Promise<Device> {
  return (processor ??= openCpu());
}

async function openCpu(): Promise<Device> {
  const threads = threaded ? navigator.hardwareConcurrency : 1;
  if (threads > 1) {
    try {
      const device = wasm.Device.cpu(threads);
      await startThreads(threads);
      return device;
    } catch (e) {
      console.warn(`goldcrest: continuing on one thread: ${e instanceof Error ? e.message : e}`);
    }
  }
  return wasm.Device.cpu(1);
}

/** Gives up a GPU that is lost, unless another session has done so. */
export async function giveUp(lost: Device): Promise<void> {
  if ((await opened?.catch(() => undefined)) === lost) opened = undefined;
}

/** How a GPU failed, if that is what the error says: lost, so that a new one may work, or otherwise. */
export function failureOf(e: unknown): "lost" | "failed" | undefined {
  if (!(e instanceof Error)) return undefined;
  return e.name === "DeviceLostError" ? "lost" : e.name === "DeviceError" ? "failed" : undefined;
}

/** Replaces failures on which wgpu aborts (a driver's internal error, memory that cannot be mapped) by errors that it returns. */
function withoutAborts(device: Device): Device {
  const handle = device.handle;
  if (!handle) return device;
  const [create, pop] = [handle.createBuffer.bind(handle), handle.popErrorScope.bind(handle)];
  let exhausted: string | undefined;
  handle.createBuffer = (descriptor) => {
    try {
      return create(descriptor);
    } catch (e) {
      if (!(e instanceof RangeError)) throw e;
      exhausted = e.message;
      return create({ ...descriptor, mappedAtCreation: false });
    }
  };
  handle.popErrorScope = async () => {
    const message = exhausted;
    exhausted = undefined;
    const e = await pop();
    if (message !== undefined) return new GPUOutOfMemoryError(message);
    return e instanceof GPUInternalError ? new GPUValidationError(e.message) : e;
  };
  return device;
}
