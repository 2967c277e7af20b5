// Signs of a live head in the views of a capture: depth in a turn, a blink. The counterpart of biometrics/pad.py: a
// deterrent, not certified presentation attack detection.

const ROUNDS = 10;

// How far the nose of a turned head moves against its ears: the RMS distance that the best homography (Hartley and
// Zisserman, Multiple View Geometry, 2004, result 13.1) leaves between landmarks, over the distance of the eyes before.
export function parallax(before, after, eyeDistance) {
  if (eyeDistance < 1e-6) return 0;
  const [from, to] = [normalised(before), normalised(after)];
  let h = solved(equations(from.points, to.points));
  if (!h) return 0;
  for (let round = 0; round < ROUNDS; round++) {
    const step = solved(newton(h, from.points, to.points));
    if (!step) break;
    h = h.map((value, index) => value + step[index]);
  }
  const residual = Math.sqrt(
    from.points.reduce((sum, point, index) => {
      const [x, y] = moved(h, point);
      return sum + (x - to.points[index][0]) ** 2 + (y - to.points[index][1]) ** 2;
    }, 0) / from.points.length,
  );
  const found = residual / to.scale / eyeDistance;
  return Number.isFinite(found) ? found : 0;
}

// Whether a series of eye openings, in the order of its frames, shows eyes open, closed and open again.
export function blinked(open, closed) {
  if (open.length < 3) return false;
  const sorted = [...open].sort((one, other) => one - other);
  const middle = (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  if (!(middle > 0)) return false;
  const isWide = (value) => value >= (middle * (1 + closed)) / 2;
  const [first, last] = [open.findIndex(isWide), open.findLastIndex(isWide)];
  return first >= 0 && open.some((value, index) => index > first && index < last && value < middle * closed);
}

// Points about their centre, at a mean distance of the square root of 2: sums of their products stay comparable.
function normalised(points) {
  const [x, y] = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const spread = points.reduce((sum, point) => sum + Math.hypot(point[0] - x, point[1] - y), 0) / points.length;
  const scale = Math.SQRT2 / Math.max(spread, 1e-9);
  return { scale, points: points.map((point) => [(point[0] - x) * scale, (point[1] - y) * scale]) };
}

function moved([a, b, c, d, e, f, g, h], [x, y]) {
  const w = g * x + h * y + 1;
  return [(a * x + b * y + c) / w, (d * x + e * y + f) / w];
}

// Linear in the eight unknowns, both sides multiplied by the denominator.
function equations(from, to) {
  return from.flatMap(([x, y], index) => {
    const [u, v] = to[index];
    return [
      [[x, y, 1, 0, 0, 0, -u * x, -u * y], u],
      [[0, 0, 0, x, y, 1, -v * x, -v * y], v],
    ];
  });
}

// A Gauss-Newton step on the distances themselves.
function newton(now, from, to) {
  return from.flatMap(([x, y], index) => {
    const w = now[6] * x + now[7] * y + 1;
    const [u, v] = moved(now, [x, y]);
    return [
      [[x / w, y / w, 1 / w, 0, 0, 0, (-u * x) / w, (-u * y) / w], to[index][0] - u],
      [[0, 0, 0, x / w, y / w, 1 / w, (-v * x) / w, (-v * y) / w], to[index][1] - v],
    ];
  });
}

// Least squares by the normal equations and Gauss with pivots; null where they say nothing.
function solved(rows) {
  const size = 8;
  const system = Array.from({ length: size }, () => new Float64Array(size + 1));
  for (const [row, value] of rows) {
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < size; j++) system[i][j] += row[i] * row[j];
      system[i][size] += row[i] * value;
    }
  }
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column; row < size; row++) if (Math.abs(system[row][column]) > Math.abs(system[pivot][column])) pivot = row;
    if (!(Math.abs(system[pivot][column]) > 1e-12)) return null;
    [system[column], system[pivot]] = [system[pivot], system[column]];
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = system[row][column] / system[column][column];
      for (let at = column; at <= size; at++) system[row][at] -= factor * system[column][at];
    }
  }
  return system.map((row, index) => row[size] / row[index]);
}
