// The study, in a worker: the CPU computes in the thread that asks it to.
import init, { Study } from "../../study/dist/study.js";

/** What to measure. */
export interface Request {
  experiments: string[];
  devices: string[];
  full: boolean;
}

/** What the worker tells the page. */
export type Message =
  | { kind: "measuring"; done: number; of: number; what: string }
  | { kind: "finished"; data: string; page: string }
  | { kind: "end" }
  | { kind: "failed"; reason: string };

const tell = (message: Message) => postMessage(message);

/** A request to stop arrives between two measurements. */
const pause = () => new Promise<void>((resolve) => setTimeout(resolve));

let study: Study | undefined;

async function run({ experiments, devices, full }: Request): Promise<void> {
  try {
    await init();
    study = new Study();
    await study.run(experiments, devices, full, {
      measuring(done: number, of: number, what: string) {
        tell({ kind: "measuring", done, of, what });
        return pause();
      },
      finished(data: string, page: string) {
        tell({ kind: "finished", data, page });
        return pause();
      },
    });
    tell({ kind: "end" });
  } catch (e) {
    tell({ kind: "failed", reason: e instanceof Error ? e.message : `${e}` });
  }
}

addEventListener("message", ({ data }: MessageEvent<Request | "stop">) => {
  if (data === "stop") study?.stop();
  else void run(data);
});
