// Runs the study on the visitor's device, and shows its report.
import type { Message, Request } from "./study.worker.js";

const element = <E extends HTMLElement>(id: string) => document.getElementById(id) as E;

/** A report: its data for programs, and its page. */
type Report = { data: string; page: string };

/** Connects the section's form. */
export function measurements(): void {
  const form = element<HTMLFormElement>("study");
  const [start, stop] = [element<HTMLButtonElement>("measure"), element<HTMLButtonElement>("stop")];
  const progress = element("progress");
  const [bar, detail] = [progress.querySelector("progress")!, progress.querySelector("span")!];
  const frame = element<HTMLIFrameElement>("report");
  const say = (text: string) => (element("measuring").textContent = text);
  let worker: Worker | undefined;
  let report: Report | undefined;
  let stopping = false;

  /** Ends the measurements. The report so far stays. */
  const end = (text: string) => {
    const focused = document.activeElement === stop;
    worker?.terminate();
    worker = undefined;
    start.disabled = false;
    progress.hidden = stop.hidden = true;
    // A hidden button loses the focus.
    if (focused) start.focus();
    say(text);
  };

  const received = (message: Message) => {
    switch (message.kind) {
      case "measuring":
        Object.assign(bar, { value: message.done, max: message.of });
        detail.textContent = `${message.done} of ${message.of}: ${message.what}`;
        break;
      case "finished":
        report = message;
        show(frame, message.page);
        element("save-page").hidden = element("save-data").hidden = false;
        if (!stopping) say("An experiment is finished: its results are below. The next one is being measured.");
        break;
      case "end":
        end(stopping ? "Stopped. The results so far are below." : "Done. The report is below.");
        break;
      case "failed":
        end(`${message.reason}.`.replace(/\.\.$/, "."));
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const experiments = [...form.querySelectorAll<HTMLInputElement>("[name=experiment]:checked")].map(({ value }) => value);
    if (experiments.length === 0) return say("Choose at least one experiment.");
    const devices = element<HTMLSelectElement>("measured-devices").value.split(",");
    const full = element<HTMLSelectElement>("effort").value === "full";
    stopping = false;
    start.disabled = true;
    stop.textContent = "Stop";
    progress.hidden = stop.hidden = false;
    bar.removeAttribute("value");
    detail.textContent = "";
    say("Measuring. Leave this tab in front: browsers slow down those behind.");
    worker = new Worker(new URL("./study.worker.ts", import.meta.url), { type: "module" });
    worker.addEventListener("message", ({ data }: MessageEvent<Message>) => received(data));
    worker.addEventListener("error", ({ message }) => end(`The measurements failed: ${message || "the worker could not be loaded"}.`));
    worker.postMessage({ experiments, devices, full } satisfies Request);
  });
  stop.addEventListener("click", () => {
    if (stopping) return end(report ? "Stopped. The results so far are below." : "Stopped, before the first result.");
    stopping = true;
    worker?.postMessage("stop");
    stop.textContent = "Stop now";
    say("Stopping after this measurement.");
  });
  element("save-page").addEventListener("click", () => report && save("goldcrest-study.html", "text/html", report.page));
  element("save-data").addEventListener("click", () => report && save("goldcrest-study.json", "application/json", report.data));
}

/** Shows a report at its full height, also while its details open and close. */
function show(frame: HTMLIFrameElement, page: string): void {
  frame.hidden = false;
  frame.addEventListener(
    "load",
    () => {
      const root = frame.contentDocument?.documentElement;
      if (root) new ResizeObserver(() => (frame.style.height = `${root.offsetHeight + 2}px`)).observe(root);
    },
    { once: true },
  );
  frame.srcdoc = page;
}

function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}
