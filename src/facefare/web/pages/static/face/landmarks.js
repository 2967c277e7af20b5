// 468 landmarks with depth on a detected face: FaceMesh. The counterpart of biometrics/landmarks.py.

import { warped } from "./pictures.js";

const COUNT = 468;
const SIZE = 192;
const MARGIN = 1.5;

export function mesher(network) {
  return async (frame, { box: [x, y, width, height], eyes }) => {
    const angle = Math.atan2(eyes[1][1] - eyes[0][1], eyes[1][0] - eyes[0][0]);
    const unit = (MARGIN * Math.max(width, height)) / SIZE; // frame pixels for a pixel of the crop
    const [cosine, sine] = [unit * Math.cos(angle), unit * Math.sin(angle)];
    const half = SIZE / 2 - 0.5;
    const offset = [x + width / 2 - (cosine - sine) * half, y + height / 2 - (sine + cosine) * half];
    const crop = warped(frame, [cosine, -sine, offset[0], sine, cosine, offset[1]], SIZE);
    const tensor = new Float32Array(3 * SIZE * SIZE);
    for (let pixel = 0; pixel < SIZE * SIZE; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        tensor[channel * SIZE * SIZE + pixel] = crop.data[pixel * 3 + channel] / 255;
      }
    }
    const outputs = await network(tensor, [1, 3, SIZE, SIZE]);
    const raw = outputs.find(({ data }) => data.length === 3 * COUNT).data;
    const presence = 1 / (1 + Math.exp(-outputs.find(({ data }) => data.length === 1).data[0]));
    const inCrop = Array.from({ length: COUNT }, (_, index) => [raw[index * 3], raw[index * 3 + 1]]);
    const points = inCrop.map(([u, v], index) => [
      cosine * (u - 0.5) - sine * (v - 0.5) + offset[0],
      sine * (u - 0.5) + cosine * (v - 0.5) + offset[1],
      raw[index * 3 + 2] * unit,
    ]);
    return { points, inCrop, presence, crop };
  };
}
