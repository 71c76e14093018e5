/** What the page and its worker send to each other. */

/** The canvas to draw on, first; then pictures, one at a time. */
export type ToWorker = { canvas: OffscreenCanvas } | { frame: VideoFrame };

/** The answer to each message. */
export type FromWorker = { ready: true } | { classes: string[]; ms: number } | { error: string };
