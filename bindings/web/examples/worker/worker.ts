/** The worker: computes on the CPU while the page stays responsive. */
import { load, Session } from "goldcrest";
import weights from "../../../../assets/demo/segment/model.safetensors?url";
import type { FromWorker, ToWorker } from "./messages.js";

const answer = (message: FromWorker) => postMessage(message);
const opened = load(weights, { config: null }).then((network) => Session.create(network, { device: "cpu" }));
let context: OffscreenCanvasRenderingContext2D;

addEventListener("message", async ({ data }: MessageEvent<ToWorker>) => {
  try {
    const session = await opened;
    if ("canvas" in data) {
      context = data.canvas.getContext("2d")!;
      return answer({ ready: true });
    }
    const { frame } = data;
    const begun = performance.now();
    const { width, height, labels, classes } = await session.segment(frame);
    const ms = performance.now() - begun;
    Object.assign(context.canvas, { width, height });
    context.drawImage(frame, 0, 0, width, height);
    frame.close();
    tint(labels, width, height);
    answer({ classes: classes.map(({ index, label }) => label ?? `class ${index}`), ms });
  } catch (e) {
    answer({ error: e instanceof Error ? e.message : String(e) });
  }
});

/** Mixes the colour of each pixel's class into the picture; class 0 is the background. */
function tint(labels: Uint8Array, width: number, height: number): void {
  const image = context.getImageData(0, 0, width, height);
  labels.forEach((label, at) => {
    for (let channel = 0; label && channel < 3; channel++) {
      // The bits of the class choose red, green and blue.
      image.data[4 * at + channel] = (image.data[4 * at + channel] + ((label >> channel) & 1) * 255) / 2;
    }
  });
  context.putImageData(image, 0, 0);
}
