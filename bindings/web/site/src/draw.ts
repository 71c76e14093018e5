// Results, drawn over the picture and listed beside it.
import type { Class, Detection, Segmentation } from "../../dist/index.js";

/** Colours of classes: one for a class's mask, its box and its entry in the list. All are legible on light and dark. */
const COLOURS = [
  [230, 85, 13],
  [49, 130, 189],
  [49, 163, 84],
  [197, 27, 138],
  [117, 107, 177],
  [222, 170, 0],
  [0, 150, 136],
  [203, 24, 29],
  [121, 85, 72],
  [0, 121, 191],
  [140, 150, 0],
] as const;

const colour = (index: number) => COLOURS[index % COLOURS.length]!;
const css = (index: number) => `rgb(${colour(index).join(" ")})`;

/** The colour of a text on a class's colour: white, unless that is too light. */
function textOn(index: number): string {
  const [red, green, blue] = colour(index);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 140 ? "#000" : "#fff";
}

/** A line of the list of results. */
export interface Line {
  index?: number;
  label: string;
  value: string;
}

/** The name of a class. */
const named = (of: { index: number; label: string | null }) => of.label ?? `class ${of.index}`;

/** Lists the classes of a picture. */
export function classes(found: Class[]): Line[] {
  return found.map((of) => ({
    label: named(of),
    value: of.probability === null ? of.value.toFixed(3) : `${(100 * of.probability).toFixed(1)} %`,
  }));
}

let overlay: OffscreenCanvas | undefined;

/** Draws the classes of all pixels except those of class 0, the background, and lists them. */
export function mask(context: CanvasRenderingContext2D, { width, height, labels, classes }: Segmentation): Line[] {
  const image = new ImageData(width, height);
  for (let at = 0; at < labels.length; at++) {
    const label = labels[at]!;
    if (label === 0) continue;
    const [red, green, blue] = colour(label);
    // Opaque along edges, so that masks stay visible on a background of their colour.
    const edge = labels[at - 1] !== label || labels[at + 1] !== label || labels[at - width] !== label || labels[at + width] !== label;
    image.data.set([red, green, blue, edge ? 255 : 140], 4 * at);
  }
  overlay ??= new OffscreenCanvas(width, height);
  Object.assign(overlay, { width, height });
  overlay.getContext("2d")!.putImageData(image, 0, 0);
  context.drawImage(overlay, 0, 0, context.canvas.width, context.canvas.height);
  const shown = classes.filter(({ index, share }) => index !== 0 && share >= 0.001);
  return shown.map((of) => ({ index: of.index, label: named(of), value: `${(100 * of.share).toFixed(1)} %` }));
}

/** Draws boxes with their names, and lists them. */
export function boxes(context: CanvasRenderingContext2D, found: Detection[]): Line[] {
  const unit = Math.max(1, context.canvas.width / 400);
  context.lineWidth = 2 * unit;
  context.font = `${13 * unit}px system-ui, sans-serif`;
  context.textBaseline = "top";
  for (const of of found) {
    const { left, top, right, bottom } = of.bounds;
    context.strokeStyle = css(of.index);
    context.strokeRect(left, top, right - left, bottom - top);
    const text = `${named(of)} ${(100 * of.score).toFixed(0)} %`;
    const height = 18 * unit;
    const y = top >= height ? top - height : Math.min(bottom, context.canvas.height - height);
    context.fillStyle = css(of.index);
    context.fillRect(left - unit, y, context.measureText(text).width + 8 * unit, height);
    context.fillStyle = textOn(of.index);
    context.fillText(text, left + 3 * unit, y + 3 * unit);
  }
  return found.map((of) => ({ index: of.index, label: named(of), value: `${(100 * of.score).toFixed(0)} %` }));
}

/** Shows the list of results. */
export function list(element: HTMLElement, lines: Line[]): void {
  element.replaceChildren(
    ...lines.map(({ index, label, value }) => {
      const line = document.createElement("li");
      const swatch = document.createElement("span");
      if (index !== undefined) {
        swatch.className = "swatch";
        swatch.style.background = css(index);
      }
      line.append(swatch, text("span", label), text("span", value));
      return line;
    }),
  );
}

/** An element with a text. */
function text(name: string, content: string): HTMLElement {
  return Object.assign(document.createElement(name), { textContent: content });
}
