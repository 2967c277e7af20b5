// How good a view is, and the one thing to change. The counterpart of biometrics/quality.py, whose landmarks and
// limits are handed over as `mesh` and `policy`.

import { round } from "./pictures.js";

const distance = (one, other) => Math.hypot(...one.map((value, axis) => value - other[axis]));
const degrees = (radians) => (radians * 180) / Math.PI;
const between = (one, other) => one.map((value, axis) => (value + other[axis]) / 2);

export function headPose(points, mesh) {
  const less = (one, other) => one.map((value, axis) => value - other[axis]);
  const dot = (one, other) => one.reduce((sum, value, axis) => sum + value * other[axis], 0);
  const unit = (vector) => vector.map((value) => value / Math.max(Math.hypot(...vector), 1e-9));
  const across = unit(less(points[mesh.left_eye_corners[0]], points[mesh.right_eye_corners[0]]));
  const along = less(points[mesh.chin], points[mesh.forehead]);
  const down = unit(along.map((value, axis) => value - across[axis] * dot(across, along)));
  const forward = [
    down[1] * across[2] - down[2] * across[1],
    down[2] * across[0] - down[0] * across[2],
    down[0] * across[1] - down[1] * across[0],
  ];
  return {
    yaw: degrees(Math.atan2(forward[0], -forward[2])),
    pitch: degrees(Math.asin(Math.min(Math.max(forward[1], -1), 1))) - mesh.neutral_pitch,
    roll: degrees(Math.atan2(across[1], across[0])),
  };
}

export function eyeDistance(points, mesh) {
  const [right, left] = [mesh.right_eye_corners, mesh.left_eye_corners].map(([a, b]) => between(points[a], points[b]));
  return Math.hypot(right[0] - left[0], right[1] - left[1]);
}

export function measure({ points, inCrop, crop }, pose, mesh) {
  const flat = points.map(([x, y]) => [x, y]);
  const [right, left] = [mesh.right_eye_corners, mesh.left_eye_corners].map(([a, b]) => between(flat[a], flat[b]));
  const length = Math.max(distance(flat[mesh.chin], between(left, right)), 1e-9);
  const gap = (pairs) => Math.max(...pairs.map(([upper, lower]) => distance(flat[upper], flat[lower])));
  const area = grey(crop, 48, 44, 96, 104);
  const luminance = Float64Array.from(area.data, (value) => value / 255);
  const mean = luminance.reduce((sum, value) => sum + value, 0) / luminance.length;
  const detail = deviation(laplacian(smoothed(luminance, area.width, area.height), area.width, area.height));
  const share = (from, to) => area.data.reduce((sum, value) => sum + (value >= from && value < to), 0) / area.data.length;
  return {
    inter_eye_distance: distance(left, right) / Math.max(Math.cos((pose.yaw * Math.PI) / 180), 0.1),
    eyes_open: Math.min(gap(mesh.right_eye_lids), gap(mesh.left_eye_lids)) / length,
    eyes_visible: Math.min(
      eyeOverCheek(crop, inCrop, mesh.right_eye_corners, mesh.right_cheek),
      eyeOverCheek(crop, inCrop, mesh.left_eye_corners, mesh.left_cheek),
    ),
    mouth_visible: belowNose(crop, inCrop, mesh) / Math.max(mean * 255, 1),
    sharpness: detail / Math.max(deviation(luminance), 1e-3),
    luminance_mean: mean,
    under_exposure: share(0, 26),
    over_exposure: share(247, 256),
    illumination_uniformity: common(area),
  };
}

export function hint(pose, quality, policy) {
  const turned = ["yaw", "pitch", "roll"].some((angle) => Math.abs(pose[angle]) > policy[`max_${angle}`]);
  const dark = quality.luminance_mean < policy.min_luminance || quality.under_exposure > policy.max_under_exposure;
  const rules = [
    [quality.inter_eye_distance < policy.min_inter_eye_distance, "come closer"],
    [turned, "look at the camera"],
    [dark, "more light from the front"],
    [quality.over_exposure > policy.max_over_exposure, "less light"],
    [quality.illumination_uniformity < policy.min_illumination_uniformity, "turn towards the light"],
    [quality.eyes_visible < policy.min_eyes_visible, "take off the sunglasses"],
    [quality.sharpness < policy.min_sharpness, "hold still"],
    [quality.mouth_visible < policy.min_mouth_visible, "uncover your mouth and nose"],
    [quality.eyes_open < policy.min_eyes_open, "open your eyes"],
  ];
  return rules.find(([broken]) => broken)?.[1] ?? null;
}

// Luminance of the square around an eye over that of one of the same size on the cheek.
function eyeOverCheek(crop, points, corners, cheek) {
  const side = Math.max(distance(points[corners[0]], points[corners[1]]), 2);
  const [eye, below] = [corners, cheek].map(([a, b]) => {
    const [x, y] = between(points[a], points[b]);
    const [left, right] = [x - side / 2, x + side / 2].map((at) => Math.min(Math.max(round(at), 0), crop.width));
    const [top, low] = [y - side / 2, y + side / 2].map((at) => Math.min(Math.max(round(at), 0), crop.height));
    if (right <= left || low <= top) return 0;
    const { data } = grey(crop, left, top, right - left, low - top);
    return data.reduce((sum, value) => sum + value, 0) / data.length;
  });
  return eye / Math.max(below, 1);
}

// How much the rows' luminance changes from the nose to below the mouth, about a line through them.
function belowNose(crop, points, mesh) {
  const [x, y] = between(points[mesh.inner_lips[0]], points[mesh.inner_lips[1]]);
  const quarter = distance(points[mesh.mouth_corners[0]], points[mesh.mouth_corners[1]]) / 4;
  const within = (at, size) => Math.min(Math.max(round(at), 0), size);
  const [left, right] = [x - quarter, x + quarter].map((at) => within(at, crop.width));
  const [top, low] = [points[mesh.nose_base][1], (y + points[mesh.chin][1]) / 2].map((at) => within(at, crop.height));
  if (right <= left || low - top < 3) return Infinity;
  const { data, width, height } = grey(crop, left, top, right - left, low - top);
  const rows = Array.from({ length: height }, (_, row) =>
    data.subarray(row * width, (row + 1) * width).reduce((sum, value) => sum + value, 0) / width);
  const mean = rows.reduce((sum, value) => sum + value, 0) / height;
  const at = rows.map((_, row) => row - (height - 1) / 2);
  const slope = rows.reduce((sum, value, row) => sum + value * at[row], 0) / at.reduce((sum, value) => sum + value ** 2, 0);
  return deviation(rows.map((value, row) => value - mean - slope * at[row]));
}

function grey(picture, left, top, width, height) {
  const data = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = ((top + y) * picture.width + left + x) * 3;
      const [red, green, blue] = picture.data.subarray(from, from + 3);
      data[y * width + x] = (red * 9798 + green * 19235 + blue * 3735 + 16384) >> 15;
    }
  }
  return { width, height, data };
}

const mirrored = (at, size) => (at < 0 ? -at : at >= size ? 2 * size - 2 - at : at);

// Gauss, standard deviation one pixel.
function smoothed(values, width, height) {
  const raw = Array.from({ length: 9 }, (_, k) => Math.exp(-((k - 4) ** 2) / 2));
  const sum = raw.reduce((total, weight) => total + weight, 0);
  const pass = (from, stepX, stepY) =>
    Float64Array.from(from, (_, index) => {
      const [x, y] = [index % width, Math.floor(index / width)];
      return raw.reduce((total, weight, k) => {
        const [column, row] = [mirrored(x + stepX * (k - 4), width), mirrored(y + stepY * (k - 4), height)];
        return total + (weight / sum) * from[row * width + column];
      }, 0);
    });
  return pass(pass(values, 1, 0), 0, 1);
}

function laplacian(values, width, height) {
  return Float64Array.from(values, (value, index) => {
    const [x, y] = [index % width, Math.floor(index / width)];
    const at = (column, row) => values[mirrored(row, height) * width + mirrored(column, width)];
    return at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4 * value;
  });
}

function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
}

// The common part of the luminance histograms, of 32 bins, of the face's halves.
function common({ width, data }) {
  const halves = [new Float64Array(32), new Float64Array(32)];
  data.forEach((value, index) => halves[index % width < width / 2 ? 0 : 1][value >> 3]++);
  return halves[0].reduce((sum, count, bin) => sum + Math.min(count, halves[1][bin]), 0) / (data.length / 2);
}
