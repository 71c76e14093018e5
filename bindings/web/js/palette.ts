/** The colours of classes. */
import { wasm } from "./module.js";

/** Red, green and blue, from 0 to 255. */
export type Colour = readonly [number, number, number];

let colours: Colour[] | undefined;

/**
 * The colour of each of 256 classes, for masks, boxes and legends. They are bright: black text is legible on them, and
 * on light backgrounds they need a dark outline. Class 0, the background, is black. Call it after {@link load} or
 * {@link start}.
 */
export function palette(): readonly Colour[] {
  if (!colours) {
    const flat = wasm.palette();
    colours = Array.from({ length: flat.length / 3 }, (_, i) => [flat[3 * i]!, flat[3 * i + 1]!, flat[3 * i + 2]!]);
  }
  return colours;
}
