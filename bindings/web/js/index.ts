/// <reference lib="esnext.disposable" preserve="true" />
/// <reference types="@webgpu/types" preserve="true" />
/**
 * MobileNets in a browser.
 *
 * ```js
 * import { load, Session } from "goldcrest";
 *
 * const network = await load("mobilenet_v2.safetensors");
 * const session = await Session.create(network);
 * const [best] = await session.classify(document.querySelector("img"));
 * console.log(best.label, best.probability, session.device);
 * ```
 *
 * Nothing blocks the page for long on a GPU. The CPU computes in the calling thread: create its sessions in
 * a worker if the page must stay responsive. In a worker of a cross-origin isolated page it has a thread per core.
 */
export { load, type LoadOptions } from "./load.js";
export { Session, type SessionOptions } from "./session.js";
export { devices, MeasuredDevice } from "./measure.js";
export { start } from "./module.js";
export { palette, type Colour } from "./palette.js";
export type { Class, Detection, Network, NetworkTiming, Peaks, Segmentation, Spread, StepTiming, Task } from "./wasm/goldcrest.js";
export type { Picture } from "./picture.js";
