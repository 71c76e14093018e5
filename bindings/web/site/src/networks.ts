// The built-in networks: the repository's demo.
import classify from "../../../../assets/demo/classify/model.safetensors?url";
import classifyConfig from "../../../../assets/demo/classify/config.json?raw";
import detect from "../../../../assets/demo/detect/model.safetensors?url";
import detectConfig from "../../../../assets/demo/detect/config.json?raw";
import segment from "../../../../assets/demo/segment/model.safetensors?url";
import segmentConfig from "../../../../assets/demo/segment/config.json?raw";
import { load, type LoadOptions, type Network } from "../../dist/index.js";

export { default as scene } from "../../../../assets/demo/scene.png?url";

/** What a built-in network does. */
export type Task = "classify" | "segment" | "detect";

const FILES: Record<Task, [url: string, config: string]> = {
  classify: [classify, classifyConfig],
  segment: [segment, segmentConfig],
  detect: [detect, detectConfig],
};

const loaded = new Map<Task, Promise<Network>>();

/** A built-in network, loaded once. */
export function builtIn(task: Task, progress: LoadOptions["progress"]): Promise<Network> {
  const [url, config] = FILES[task];
  const network = loaded.get(task) ?? load(url, { config, progress });
  loaded.set(task, network);
  network.catch(() => loaded.delete(task));
  return network;
}
