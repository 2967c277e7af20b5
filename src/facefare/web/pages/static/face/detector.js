// Finds faces: BlazeFace, short range. The counterpart of biometrics/detector.py.

import { resized } from "./pictures.js";

const SIZE = 128;
const MIN_SCORE = 0.5;
const MIN_IOU = 0.3;
const LARGEST_RAW_SCORE = 100;

// The 896 anchor centres: two for each cell of 16 x 16, six for each of 8 x 8.
const ANCHORS = [[16, 2], [8, 6]].flatMap(([cells, count]) =>
  Array.from({ length: cells * cells * count }, (_, index) => {
    const cell = Math.floor(index / count);
    return [((cell % cells) + 0.5) / cells, (Math.floor(cell / cells) + 0.5) / cells];
  }),
);

export function detector(network) {
  return async (frame) => {
    const scale = SIZE / Math.max(frame.height, frame.width);
    const [width, height] = [frame.width, frame.height].map((side) => Math.max(1, Math.round(side * scale)));
    const small = resized(frame, width, height);
    const [left, top] = [(SIZE - width) >> 1, (SIZE - height) >> 1];
    const tensor = new Float32Array(3 * SIZE * SIZE).fill(-1);
    for (let channel = 0; channel < 3; channel++) {
      for (let y = 0; y < height; y++) {
        for (let x = 0; x < width; x++) {
          tensor[(channel * SIZE + top + y) * SIZE + left + x] = small.data[(y * width + x) * 3 + channel] / 127.5 - 1;
        }
      }
    }
    const outputs = await network(tensor, [1, 3, SIZE, SIZE]);
    const raw = outputs.find(({ dims }) => dims.at(-1) === 1).data;
    const regressed = outputs.find(({ dims }) => dims.at(-1) === 16).data;
    const found = [];
    raw.forEach((value, index) => {
      const score = 1 / (1 + Math.exp(-Math.min(Math.max(value, -LARGEST_RAW_SCORE), LARGEST_RAW_SCORE)));
      if (score < MIN_SCORE) return;
      // Centre, size, then six points: right eye, left eye, nose, mouth, right ear, left ear.
      const points = Array.from({ length: 8 }, (_, point) => [0, 1].map((axis) => {
        const value = regressed[index * 16 + point * 2 + axis];
        if (point === 1) return value / scale;
        return (value + ANCHORS[index][axis] * SIZE - (axis === 0 ? left : top)) / scale;
      }));
      found.push({ points, score });
    });
    return merged(found);
  };
}

// Boxes that overlap are one face: their mean, weighted by score.
function merged(found) {
  const faces = [];
  let remaining = found.sort((one, other) => other.score - one.score);
  while (remaining.length) {
    const best = remaining[0];
    const group = remaining.filter((other) => overlap(best.points, other.points) >= MIN_IOU);
    remaining = remaining.filter((other) => !group.includes(other));
    const total = group.reduce((sum, { score }) => sum + score, 0);
    const [centre, size, ...rest] = best.points.map((_, point) =>
      [0, 1].map((axis) => group.reduce((sum, face) => sum + face.score * face.points[point][axis], 0) / total),
    );
    const box = [centre[0] - size[0] / 2, centre[1] - size[1] / 2, size[0], size[1]];
    faces.push({ box, eyes: rest.slice(0, 2), score: best.score });
  }
  return faces.sort((one, other) => other.box[2] - one.box[2]);
}

function overlap([centre, size], [otherCentre, otherSize]) {
  let [common, area, otherArea] = [1, 1, 1];
  for (const axis of [0, 1]) {
    const low = Math.max(centre[axis] - size[axis] / 2, otherCentre[axis] - otherSize[axis] / 2);
    const high = Math.min(centre[axis] + size[axis] / 2, otherCentre[axis] + otherSize[axis] / 2);
    common *= Math.max(high - low, 0);
    area *= size[axis];
    otherArea *= otherSize[axis];
  }
  const union = area + otherArea - common;
  return union > 0 ? common / union : 1;
}
