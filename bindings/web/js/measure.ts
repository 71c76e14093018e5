/** Measurements of the browser's devices. */
import { cpu, gpu } from "./devices.js";
import { start, wasm } from "./module.js";
import type { Device, NetworkTiming, Peaks } from "./wasm/goldcrest.js";

/** A device to measure. */
export class MeasuredDevice {
  constructor(private readonly device: Device) {}

  /** `gpu` or `cpu`. */
  get backend(): "gpu" | "cpu" {
    return this.device.backend as "gpu" | "cpu";
  }

  /** A description. */
  get name(): string {
    return this.device.name;
  }

  /** Measures the peak rates. Takes some seconds. */
  peaks(): Promise<Peaks> {
    return wasm.measurePeaks(this.device);
  }

  /**
   * Measures a network with seeded weights by its name, such as `mobilenet_v2`, layer by layer, for at least
   * `seconds`, 0 to 60. The CPU occupies the calling thread meanwhile.
   */
  network(name: string, peaks: Peaks, seconds = 1): Promise<NetworkTiming> {
    return wasm.measureNetwork(this.device, name, peaks, seconds);
  }
}

/** The devices of this browser: the GPU, if there is one, and the CPU. */
export async function devices(): Promise<MeasuredDevice[]> {
  await start();
  const all = [await gpu().catch(() => undefined), await cpu()];
  return all.filter((device) => device !== undefined).map((device) => new MeasuredDevice(device));
}
