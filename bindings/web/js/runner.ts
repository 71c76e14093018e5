/** A network on one device, and the choice between two devices. */
import { failureOf, giveUp } from "./devices.js";
import { isTexture, pixelsOf, type Picture } from "./picture.js";
import { wasm } from "./module.js";
import type { Device, Input, Network, Session as Engine } from "./wasm/goldcrest.js";

/** A network on a device. */
export class Runner {
  constructor(
    readonly device: Device,
    readonly engine: Engine,
  ) {}

  /** A network on a device. */
  static on(device: Device, network: Network, { embedding = false, f16 = false }): Runner {
    return new Runner(device, new wasm.Session(network, device, embedding, f16));
  }

  get backend(): "gpu" | "cpu" {
    return this.device.backend as "gpu" | "cpu";
  }

  /** Runs on a picture. */
  async run<R>(picture: Picture, size: [number, number], work: (engine: Engine, input: Input) => Promise<R>): Promise<R> {
    if (isTexture(picture)) {
      if (this.backend === "gpu") return work(this.engine, wasm.Input.texture(picture));
      throw new Error('the session is on the CPU, which cannot read a GPUTexture: create it with the device "gpu"');
    }
    if (this.backend === "cpu") {
      const { data } = pixelsOf(picture, size);
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      return work(this.engine, wasm.Input.pixels(...size, bytes));
    }
    try {
      return await work(this.engine, wasm.Input.page(...size, picture));
    } catch (e) {
      // Some browsers cannot copy a video to a texture, but draw it.
      if (!(e instanceof Error) || e.name !== "CopyError") throw e;
      return work(this.engine, wasm.Input.page(...size, pixelsOf(picture, size)));
    }
  }

  free(): void {
    this.engine.free();
  }
}

/** Says that a session stays on the CPU because its GPU failed. */
export function warnOfCpu(e: unknown): void {
  console.warn(`goldcrest: continuing on the CPU: ${e instanceof Error ? e.message : e}`);
}

/** Pictures that each device runs before the faster one is chosen. */
const TRIALS = 3;

/** The choice between the CPU, which is ready at once, and a GPU that is still preparing. */
export class Choice {
  private gpu?: Runner;
  private failed = false;
  private preparing?: Promise<void>;
  private readonly times = { cpu: [] as number[], gpu: [] as number[] };

  constructor(
    private readonly cpu: Runner,
    private readonly opening: Promise<Runner | undefined>,
    private readonly progress?: (compiled: number, total: number) => void,
  ) {}

  /** Prepares the GPU for pictures of this size in the background, once. */
  prepare(size: [number, number]): void {
    this.preparing ??= this.build(size);
  }

  private async build(size: [number, number]): Promise<void> {
    const gpu = await this.opening;
    try {
      await gpu?.engine.build(...size, this.progress);
      this.gpu = gpu;
    } catch (e) {
      warnOfCpu(e);
      if (gpu && failureOf(e) === "lost") await giveUp(gpu.device);
    }
    this.failed = !this.gpu;
  }

  /** The GPU once it is prepared, if it can be. */
  async prepared(size: [number, number]): Promise<Runner | undefined> {
    this.prepare(size);
    await this.preparing;
    return this.gpu;
  }

  /** The device for the next picture. They take turns, so that both see the same state of the machine. */
  next(): Runner {
    return this.gpu && this.times.gpu.length <= this.times.cpu.length ? this.gpu : this.cpu;
  }

  /** Records the time of a picture. Returns the faster device once it is known. */
  record(runner: Runner, ms: number): Runner | undefined {
    if (this.failed) return this.cpu;
    if (!this.gpu) return undefined;
    this.times[runner.backend].push(ms);
    const { cpu, gpu } = this.times;
    // Each device's first picture here may be slower.
    if (Math.min(cpu.length, gpu.length) <= TRIALS) return undefined;
    return Math.min(...gpu.slice(1)) < Math.min(...cpu.slice(1)) ? this.gpu : this.cpu;
  }

  /** Frees the device that was not chosen; both without one. */
  async free(chosen?: Runner): Promise<void> {
    await this.preparing;
    for (const runner of [this.cpu, await this.opening]) {
      if (runner !== chosen) runner?.free();
    }
  }
}
