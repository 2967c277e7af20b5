// Runs the networks beside the page. Its policy lets it reach no server at all: it is handed everything it needs.

import { Capture, Reader } from "./reader.js";

let reader;
let capture;

const ANSWERS = {
  async load(parts) {
    reader = await Reader.load(parts);
    capture = new Capture(reader);
    await capture.offer({ width: 128, height: 128, data: new Uint8ClampedArray(128 * 128 * 4) }); // warm up
    return {};
  },
  look: ({ image }) => capture.offer(image),
  finish: async () => ({ reference: capture.finish() }),
};

self.onmessage = async ({ data: { id, ask, ...parts } }) => {
  try {
    self.postMessage({ id, ...(await ANSWERS[ask](parts)) });
  } catch (error) {
    self.postMessage({ id, failed: error.message });
  }
};
