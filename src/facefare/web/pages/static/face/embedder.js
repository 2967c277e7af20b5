// A frame and its landmarks become a template, as the embedder's description says. The counterpart of
// biometrics/embedder.py.

import { cut, halved, warped } from "./pictures.js";

export function embedder(network, { input, alignment, output }) {
  const { size, mean, scale, channels } = input;
  const order = channels === "RGB" ? [0, 1, 2] : [2, 1, 0];

  function align(frame, landmarks) {
    const points = alignment.landmarks.map((group) => middle(group.map((index) => landmarks[index])));
    return warpedBy(frame, similarity(points, alignment.targets), size);
  }

  async function embed(aligned) {
    const views = output.mirror ? 2 : 1;
    const tensor = new Float32Array(views * 3 * size * size);
    for (let view = 0; view < views; view++) {
      for (let channel = 0; channel < 3; channel++) {
        for (let y = 0; y < size; y++) {
          for (let x = 0; x < size; x++) {
            const from = y * size + (view ? size - 1 - x : x);
            const value = aligned.data[from * 3 + order[channel]];
            tensor[((view * 3 + channel) * size + y) * size + x] = (value - mean[channel]) * scale;
          }
        }
      }
    }
    const [{ data }] = await network(tensor, [views, 3, size, size]);
    const vectors = Array.from({ length: views }, (_, view) =>
      unit(data.slice(view * output.dimensions, (view + 1) * output.dimensions)),
    );
    return fused(vectors);
  }

  return { align, embed };
}

export function fused(vectors) {
  return unit(vectors[0].map((_, index) => vectors.reduce((sum, vector) => sum + vector[index], 0)));
}

export function dot(one, other) {
  return one.reduce((sum, value, index) => sum + value * other[index], 0);
}

function unit(vector) {
  const length = Math.sqrt(dot(vector, vector));
  if (!(length > 1e-6)) throw new Error("The embedder gave a vector without direction.");
  return Float32Array.from(vector, (value) => value / length);
}

function middle(points) {
  return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
}

// Least-squares similarity from source to target (Umeyama, 1991): [re, im, x, y] of z -> (re + i im) z + (x + i y).
function similarity(source, target) {
  const [from, to] = [middle(source), middle(target)];
  let [re, im, spread] = [0, 0, 0];
  source.forEach(([x, y], index) => {
    const [a, b] = [x - from[0], y - from[1]];
    const [c, d] = [target[index][0] - to[0], target[index][1] - to[1]];
    re += a * c + b * d;
    im += a * d - b * c;
    spread += a * a + b * b;
  });
  re /= Math.max(spread, 1e-12);
  im /= Math.max(spread, 1e-12);
  return [re, im, to[0] - re * from[0] + im * from[1], to[1] - im * from[0] - re * from[1]];
}

// Cuts out what the warp needs and halves it while it is more than twice the target, as dlib does.
function warpedBy(frame, [re, im, x, y], size) {
  const back = (u, v, [a, b]) => {
    const square = re * re + im * im;
    const [p, q] = [u - a, v - b];
    return [(re * p + im * q) / square, (re * q - im * p) / square];
  };
  const corners = [[0, 0], [size, 0], [0, size], [size, size]].map(([u, v]) => back(u, v, [x, y]));
  const margin = 8;
  const low = [0, 1].map((axis) => Math.max(Math.floor(Math.min(...corners.map((c) => c[axis]))) - margin, 0));
  const high = [0, 1].map((axis) => Math.ceil(Math.max(...corners.map((c) => c[axis]))) + margin);
  let picture = cut(frame, low[0], low[1], Math.max(high[0], low[0] + 1), Math.max(high[1], low[1] + 1));
  x += re * low[0] - im * low[1];
  y += im * low[0] + re * low[1];
  while (Math.hypot(re, im) < 0.5 && Math.min(picture.width, picture.height) > 2) {
    picture = halved(picture);
    re *= 2;
    im *= 2;
  }
  const square = re * re + im * im;
  const [origin] = [back(0, 0, [x, y])];
  return warped(picture, [re / square, im / square, origin[0], -im / square, re / square, origin[1]], size);
}
