/** The page: sends the camera's pictures to a worker, which draws them with their segmentation. */
import type { FromWorker, ToWorker } from "./messages.js";

const status = document.getElementById("status")!;
const video = document.getElementById("video") as HTMLVideoElement;
const view = document.getElementById("view") as HTMLCanvasElement;
const worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });

/** Transfers what the worker owns from now on. */
const send = (message: ToWorker, owned: Transferable) => worker.postMessage(message, [owned]);

/** The next picture of the camera. A frame is a reference to it: nothing is copied. */
const next = () =>
  video.requestVideoFrameCallback(() => {
    const frame = new VideoFrame(video);
    send({ frame }, frame);
  });

worker.addEventListener("message", ({ data }: MessageEvent<FromWorker>) => {
  if ("error" in data) {
    status.textContent = data.error;
    return;
  }
  if ("classes" in data) status.textContent = `${data.classes.join(", ") || "nothing known"}: ${data.ms.toFixed(0)} ms`;
  // One picture at a time: the worker always has the latest.
  next();
});

try {
  video.srcObject = await navigator.mediaDevices.getUserMedia({ video: true });
  await video.play();
  const canvas = view.transferControlToOffscreen();
  send({ canvas }, canvas);
} catch (e) {
  status.textContent = `The camera could not be opened: ${(e as Error).message}`;
}
