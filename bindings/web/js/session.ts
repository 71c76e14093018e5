/** Sessions: networks that are ready to run. */
import { cpu, failureOf, giveUp, gpu } from "./devices.js";
import { Choice, Runner, warnOfCpu } from "./runner.js";
import { start } from "./module.js";
import { isTexture, sizeOf, type Picture } from "./picture.js";
import type { Class, Detection, Device, Input, Network, Segmentation, Session as Engine, Task } from "./wasm/goldcrest.js";

/** Options of {@link Session.create}. */
export interface SessionOptions {
  /**
   * `gpu` runs through WebGPU, `cpu` in WebAssembly. `auto`, the default, starts on the CPU, prepares the GPU
   * meanwhile, and continues on the faster one. If the GPU fails it continues on the CPU, with a warning in the
   * console.
   */
  device?: "auto" | "gpu" | "cpu";
  /** Asks for the embedding of a classifier, for {@link Session.embed}. */
  embedding?: boolean;
  /** Feature maps and weights of 16-bit floats on GPUs that have them. */
  f16?: boolean;
  /** Called while a GPU's pipelines are compiled, with the number compiled and the total. */
  progress?: (compiled: number, total: number) => void;
}

/** A network on a device. The first picture of a size takes longer: the session prepares itself for it. */
export class Session {
  /** Ends when all calls so far have: a session computes one picture after another. */
  private last: Promise<unknown> = Promise.resolve();
  private closing?: Promise<void>;

  private constructor(
    private readonly network: Network,
    private readonly options: SessionOptions,
    private runner: Runner,
    /** While `auto` has not chosen a device. */
    private choice?: Choice,
  ) {}

  /** Creates a session. Rejects if the device is `gpu` and the browser has no WebGPU adapter. */
  static async create(network: Network, options: SessionOptions = {}): Promise<Session> {
    await start();
    if (options.device === "gpu") {
      return new Session(network, options, Runner.on(await gpu(), network, options));
    }
    const ready = Runner.on(await cpu(), network, options);
    if (options.device === "cpu") return new Session(network, options, ready);
    const opening = gpu().then(
      (device) => Runner.on(device, network, options),
      (e) => {
        // Having no GPU is no failure.
        if (failureOf(e)) warnOfCpu(e);
        return undefined;
      },
    );
    return new Session(network, options, ready, new Choice(ready, opening, options.progress));
  }

  /** The device in use: `gpu` or `cpu`. */
  get device(): "gpu" | "cpu" {
    return this.runner.backend;
  }

  /** A description of the device in use. */
  get deviceName(): string {
    return this.runner.device.name;
  }

  /**
   * Whether the comparison of the devices is over: `auto` compares them for a few pictures. A session whose GPU fails
   * later still moves to the CPU, unless it was created for `gpu`.
   */
  get decided(): boolean {
    return this.choice === undefined;
  }

  /**
   * The `GPUDevice` of a session on a GPU, which all sessions share. A page's own device cannot be used, and WebGPU
   * shares no objects between devices: create the textures that a session reads on this one.
   */
  get gpuDevice(): GPUDevice | undefined {
    return this.runner.device.handle;
  }

  /** What the network does: `classify`, `segment`, `detect` or `embed`. */
  get task(): Task {
    return this.runner.engine.task;
  }

  /** Prepares the session for pictures of a size. */
  prepare(width: number, height: number): Promise<void> {
    return this.queued(async () => {
      this.choice?.prepare([width, height]);
      await this.attempt((runner) => runner.engine.build(width, height, this.options.progress));
    });
  }

  /** The `top` most likely classes of a picture. */
  classify(picture: Picture, { top = 5 } = {}): Promise<Class[]> {
    return this.run(picture, (engine, input) => engine.classify(input, top));
  }

  /** The class of each pixel of a picture. */
  segment(picture: Picture): Promise<Segmentation> {
    return this.run(picture, (engine, input) => engine.segment(input));
  }

  /** The objects in a picture whose score is at least `score`, highest first. */
  detect(picture: Picture, { score = 0.5 } = {}): Promise<Detection[]> {
    return this.run(picture, (engine, input) => engine.detect(input, score));
  }

  /** The embedding vector of a picture, in a session with the option `embedding`. */
  embed(picture: Picture): Promise<Float32Array> {
    return this.run(picture, (engine, input) => engine.embed(input));
  }

  /** Frees the session's memory after the calls so far. Further calls have no effect. */
  close(): Promise<void> {
    return (this.closing ??= this.last.then(() => (this.choice ? this.choice.free() : this.runner.free())));
  }

  private run<R>(picture: Picture, work: (engine: Engine, input: Input) => Promise<R>): Promise<R> {
    return this.queued(async () => {
      const size = sizeOf(picture);
      // The CPU cannot read a texture.
      if (this.choice && isTexture(picture)) await this.stay(await this.choice.prepared(size));
      this.runner = this.choice?.next() ?? this.runner;
      const begun = performance.now();
      const result = await this.attempt(async (runner) => {
        // Running would build it too, without the progress.
        if (runner.backend === "gpu") await runner.engine.build(...size, this.options.progress);
        return runner.run(picture, size, work);
      });
      this.choice?.prepare(size);
      await this.stay(this.choice?.record(this.runner, performance.now() - begun));
      return result;
    });
  }

  /** Works on the device in use. Opens a lost GPU again, once. `auto` continues on the CPU if the GPU fails. */
  private async attempt<R>(work: (runner: Runner) => Promise<R>): Promise<R> {
    for (let reopened = false; ; ) {
      try {
        return await work(this.runner);
      } catch (e) {
        const failure = this.runner.backend === "gpu" ? failureOf(e) : undefined;
        if (failure === "lost" && !reopened) {
          await this.reopen();
          reopened = true;
        } else if (failure && this.options.device !== "gpu") {
          await this.continueOnCpu(e);
        } else {
          throw e;
        }
      }
    }
  }

  /** Ends the comparison of the devices. */
  private async stay(runner: Runner | undefined): Promise<void> {
    if (!runner || !this.choice) return;
    this.runner = runner;
    const { choice } = this;
    this.choice = undefined;
    await choice.free(runner);
  }

  /** Replaces a lost GPU by a new device, or by the CPU if there is none and the session may run on it. */
  private async reopen(): Promise<void> {
    await giveUp(this.runner.device);
    try {
      await this.replace(await gpu());
    } catch (e) {
      if (this.options.device === "gpu") throw e;
      await this.continueOnCpu(e);
    }
  }

  private async continueOnCpu(e: unknown): Promise<void> {
    warnOfCpu(e);
    await this.replace(await cpu());
  }

  /** Continues on another device. */
  private async replace(device: Device): Promise<void> {
    const { choice, runner } = this;
    this.runner = Runner.on(device, this.network, this.options);
    this.choice = undefined;
    if (choice) await choice.free();
    else runner.free();
  }

  private queued<R>(work: () => Promise<R>): Promise<R> {
    if (this.closing) return Promise.reject(new Error("the session is closed"));
    const next = this.last.then(work);
    this.last = next.catch(() => undefined);
    return next;
  }
}
