/** The browser's devices. All sessions share them, and with them compiled pipelines. */
import { Device } from "./wasm/goldcrest.js";

let opened: Promise<Device> | undefined;
let processor: Device | undefined;

/** The GPU. Rejects if the browser has no WebGPU adapter. */
export function gpu(): Promise<Device> {
  if (!opened) {
    opened = Device.gpu().then(withoutInternalErrors);
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

/** How a GPU failed, if that is what the error says: lost, so that a new one may work, or otherwise. */
export function failureOf(e: unknown): "lost" | "failed" | undefined {
  if (!(e instanceof Error)) return undefined;
  return e.name === "DeviceLostError" ? "lost" : e.name === "DeviceError" ? "failed" : undefined;
}

/** wgpu aborts at a `GPUInternalError`, such as a driver's failure to compile a kernel. */
function withoutInternalErrors(device: Device): Device {
  const handle = device.handle;
  if (handle) {
    const pop = handle.popErrorScope.bind(handle);
    handle.popErrorScope = async () => {
      const e = await pop();
      return e instanceof GPUInternalError ? new GPUValidationError(e.message) : e;
    };
  }
  return device;
}
