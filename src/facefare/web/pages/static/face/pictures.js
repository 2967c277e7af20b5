// Pictures as the networks get them: {width, height, data}, three bytes a pixel, red, green, blue, rows from the top.
// Integer pixel coordinates are pixel centres. The arithmetic is OpenCV's, to the bit where that was possible, so
// that a template made here equals one that a station makes.

export function rgb({ width, height, data }) {
  const picture = blank(width, height);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    picture.data[to++] = data[from];
    picture.data[to++] = data[from + 1];
    picture.data[to++] = data[from + 2];
  }
  return picture;
}

function blank(width, height) {
  return { width, height, data: new Uint8Array(width * height * 3) };
}

// Half to even, as C's rint.
export function round(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

// The weights of the source pixels that each of `to` target pixels covers, along one side.
function coverage(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, target) => {
    const [start, end] = [target * scale, Math.min((target + 1) * scale, from)];
    const weights = [];
    for (let source = Math.floor(start + 1e-3 * (start % 1 > 0.999)); source < end - 1e-3; source++) {
      weights.push([source, (Math.min(source + 1, end) - Math.max(source, start)) / (end - start)]);
    }
    return weights;
  });
}

// For enlarging: the two source pixels that each target pixel lies between, and how far.
function between(from, to) {
  const scale = from / to;
  return Array.from({ length: to }, (_, target) => {
    const at = Math.min(Math.max((target + 0.5) * scale - 0.5, 0), from - 1);
    const low = Math.min(Math.floor(at), from - 1);
    const rest = at - low;
    return rest === 0 ? [[low, 1]] : [[low, 1 - rest], [low + 1, rest]];
  });
}

// Shrinks by the mean of what each pixel covers; enlarges bilinearly.
export function resized(picture, width, height) {
  const weights = width < picture.width ? coverage : between;
  const [columns, rows] = [weights(picture.width, width), weights(picture.height, height)];
  const narrow = new Float64Array(width * picture.height * 3);
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < width; x++) {
      const to = (y * width + x) * 3;
      for (const [source, weight] of columns[x]) {
        const from = (y * picture.width + source) * 3;
        narrow[to] += weight * picture.data[from];
        narrow[to + 1] += weight * picture.data[from + 1];
        narrow[to + 2] += weight * picture.data[from + 2];
      }
    }
  }
  const small = blank(width, height);
  const row = new Float64Array(width * 3);
  for (let y = 0; y < height; y++) {
    row.fill(0);
    for (const [source, weight] of rows[y]) {
      const from = source * width * 3;
      for (let i = 0; i < row.length; i++) row[i] += weight * narrow[from + i];
    }
    for (let i = 0; i < row.length; i++) small.data[y * row.length + i] = round(row[i]);
  }
  return small;
}

// Half the size, smoothed by the binomial filter 1 4 6 4 1, mirrored at the edges.
export function halved(picture) {
  const width = (picture.width + 1) >> 1;
  const height = (picture.height + 1) >> 1;
  const mirrored = (at, size) => {
    if (size === 1) return 0;
    const folded = Math.abs(at) % (2 * size - 2);
    return folded < size ? folded : 2 * size - 2 - folded;
  };
  const filter = [1, 4, 6, 4, 1];
  const narrow = new Int32Array(width * picture.height * 3);
  for (let y = 0; y < picture.height; y++) {
    for (let x = 0; x < width; x++) {
      for (let k = 0; k < 5; k++) {
        const from = (y * picture.width + mirrored(2 * x + k - 2, picture.width)) * 3;
        for (let c = 0; c < 3; c++) narrow[(y * width + x) * 3 + c] += filter[k] * picture.data[from + c];
      }
    }
  }
  const small = blank(width, height);
  for (let y = 0; y < height; y++) {
    const rows = filter.map((_, k) => mirrored(2 * y + k - 2, picture.height) * width * 3);
    for (let i = 0; i < width * 3; i++) {
      let sum = 128;
      for (let k = 0; k < 5; k++) sum += filter[k] * narrow[rows[k] + i];
      small.data[y * width * 3 + i] = sum >> 8;
    }
  }
  return small;
}

export function cut(picture, left, top, right, bottom) {
  const part = blank(Math.min(right, picture.width) - left, Math.min(bottom, picture.height) - top);
  for (let y = 0; y < part.height; y++) {
    const from = ((top + y) * picture.width + left) * 3;
    part.data.set(picture.data.subarray(from, from + part.width * 3), y * part.width * 3);
  }
  return part;
}

// size x size pixels; pixel (x, y) is looked up at a x + b y + c, d x + e y + f of the picture, bilinearly, black
// outside. As in OpenCV, positions are taken to 1/1024 and then to 1/32 of a pixel, and the weights are integers.
export function warped(picture, [a, b, c, d, e, f], size) {
  const { width, height, data } = picture;
  const result = blank(size, size);
  const [across, down] = [a, d].map((step) => Array.from({ length: size }, (_, x) => round(step * x * 1024)));
  const inside = (column, row) => column >= 0 && row >= 0 && column < width && row < height;
  for (let y = 0; y < size; y++) {
    const [startX, startY] = [round((b * y + c) * 1024) + 16, round((e * y + f) * 1024) + 16];
    for (let x = 0; x < size; x++) {
      const [u, v] = [(startX + across[x]) >> 5, (startY + down[x]) >> 5];
      const [left, top, right, low] = [u >> 5, v >> 5, u & 31, v & 31];
      const to = (y * size + x) * 3;
      const corners = [
        [left, top, (32 - right) * (32 - low)],
        [left + 1, top, right * (32 - low)],
        [left, top + 1, (32 - right) * low],
        [left + 1, top + 1, right * low],
      ];
      for (let channel = 0; channel < 3; channel++) {
        let sum = 512;
        for (const [column, row, weight] of corners) {
          if (inside(column, row)) sum += weight * data[(row * width + column) * 3 + channel];
        }
        result.data[to + channel] = sum >> 10;
      }
    }
  }
  return result;
}
