// Draws up to 425 bytes as a QR code (ISO/IEC 18004) of one fixed kind: version 13, level L, mask 0, byte mode.
// What is shown is sealed and so looks random: one mask is as good as another.

const SIZE = 69;
const QUIET = 4; // modules around it
const BLOCKS = 4;
const DATA = 107; // codewords of data in a block
const CHECK = 26; // and of error correction
const CAPACITY = BLOCKS * DATA - 3; // mode and length take 20 bits
const ALIGNED = [6, 34, 62];

// The modules, true for dark: rows of 69.
export function modules(bytes) {
  if (bytes.length > CAPACITY) throw new Error(`At most ${CAPACITY} bytes.`);
  const dark = Array.from({ length: SIZE }, () => new Array(SIZE).fill(false));
  const fixed = Array.from({ length: SIZE }, () => new Array(SIZE).fill(false));
  const put = (x, y, value) => {
    dark[y][x] = value;
    fixed[y][x] = true;
  };
  patterns(put);
  place(codewords(bytes), dark, fixed);
  return dark;
}

// Draw it over the whole of a square canvas, as large as whole pixels allow.
export function draw(bytes, canvas) {
  const pixels = Math.max(1, Math.floor(canvas.width / (SIZE + 2 * QUIET)));
  canvas.width = canvas.height = pixels * (SIZE + 2 * QUIET);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.fillStyle = "#000";
  modules(bytes).forEach((row, y) =>
    row.forEach((value, x) => value && pen.fillRect((x + QUIET) * pixels, (y + QUIET) * pixels, pixels, pixels)),
  );
}

function patterns(put) {
  const finder = (left, top) => {
    for (let y = -1; y < 8; y++) {
      for (let x = -1; x < 8; x++) {
        const [column, row] = [left + x, top + y];
        if (column < 0 || row < 0 || column >= SIZE || row >= SIZE) continue;
        const ring = Math.max(Math.abs(x - 3), Math.abs(y - 3));
        put(column, row, ring !== 2 && ring !== 4);
      }
    }
  };
  for (let i = 8; i < SIZE - 8; i++) {
    put(i, 6, i % 2 === 0);
    put(6, i, i % 2 === 0);
  }
  finder(0, 0);
  finder(SIZE - 7, 0);
  finder(0, SIZE - 7);
  for (const cy of ALIGNED) {
    for (const cx of ALIGNED) {
      const corner = (cx === 6 && cy !== 34) || (cy === 6 && cx !== 34);
      if (corner) continue;
      for (let y = -2; y <= 2; y++) {
        for (let x = -2; x <= 2; x++) put(cx + x, cy + y, Math.max(Math.abs(x), Math.abs(y)) !== 1);
      }
    }
  }
  format(put);
  version(put);
}

function format(put) {
  const bits = ((0b01000 << 10) | remainder(0b01000 << 10, 0x537, 10)) ^ 0x5412; // level L, mask 0
  const bit = (i) => ((bits >> i) & 1) === 1;
  for (let i = 0; i < 15; i++) {
    put(8, i < 6 ? i : i < 8 ? i + 1 : SIZE - 15 + i, bit(i));
    put(i < 8 ? SIZE - 1 - i : i === 8 ? 7 : 14 - i, 8, bit(i));
  }
  put(8, SIZE - 8, true);
}

function version(put) {
  const bits = (13 << 12) | remainder(13 << 12, 0x1f25, 12);
  for (let i = 0; i < 18; i++) {
    const value = ((bits >> i) & 1) === 1;
    const [far, near] = [SIZE - 11 + (i % 3), Math.floor(i / 3)];
    put(far, near, value);
    put(near, far, value);
  }
}

// Of the division of one binary polynomial by another, of the given degree.
function remainder(value, divisor, degree) {
  for (let i = 31; i >= degree; i--) if ((value >>> i) & 1) value ^= divisor << (i - degree);
  return value;
}

function codewords(bytes) {
  const data = new Uint8Array(BLOCKS * DATA);
  const packed = [4 << 4, bytes.length >> 8, bytes.length & 255, ...bytes]; // byte mode, its length, the bytes
  data[0] = packed[0] | (packed[1] >> 4);
  for (let i = 1; i < packed.length; i++) data[i] = ((packed[i] & 15) << 4) | ((packed[i + 1] ?? 0) >> 4);
  for (let i = packed.length, even = true; i < data.length; i++, even = !even) data[i] = even ? 0xec : 0x11;
  const blocks = Array.from({ length: BLOCKS }, (_, i) => data.slice(i * DATA, (i + 1) * DATA));
  const checks = blocks.map(reedSolomon);
  const all = [];
  for (let i = 0; i < DATA; i++) for (const block of blocks) all.push(block[i]);
  for (let i = 0; i < CHECK; i++) for (const check of checks) all.push(check[i]);
  return all;
}

function reedSolomon(block) {
  let generator = [1];
  for (let i = 0, root = 1; i < CHECK; i++, root = times(root, 2)) {
    const next = [...generator, 0];
    generator.forEach((value, j) => (next[j + 1] ^= times(value, root)));
    generator = next;
  }
  const rest = [...block, ...new Array(CHECK).fill(0)];
  for (let i = 0; i < block.length; i++) {
    const lead = rest[i];
    generator.forEach((value, j) => (rest[i + j] ^= times(value, lead)));
  }
  return rest.slice(block.length);
}

// In GF(256) with x^8 + x^4 + x^3 + x^2 + 1.
function times(a, b) {
  let product = 0;
  for (; b; b >>= 1, a = (a << 1) ^ (a & 128 ? 0x11d : 0)) if (b & 1) product ^= a;
  return product;
}

// Two columns at a time from the right, up and down in turn; mask 0 turns every module with an even sum.
function place(words, dark, fixed) {
  let at = 0;
  let up = true;
  for (let right = SIZE - 1; right > 0; right -= right === 8 ? 3 : 2, up = !up) {
    for (let i = 0; i < SIZE; i++) {
      const y = up ? SIZE - 1 - i : i;
      for (const x of [right, right - 1]) {
        if (fixed[y][x]) continue;
        const bit = at < words.length * 8 ? (words[at >> 3] >> (7 - (at & 7))) & 1 : 0;
        at++;
        dark[y][x] = (bit === 1) !== ((x + y) % 2 === 0);
      }
    }
  }
}
