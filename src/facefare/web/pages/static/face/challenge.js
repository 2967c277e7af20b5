// Moves of the head that nobody can foresee, asked for one by one. The counterpart of Challenge in biometrics/pad.py,
// whose numbers are handed over as `rules`.
//
// Every move comes at least once and none twice in a row. A mistake is another move than the one asked for and the one
// before (from which the head has to come back), or no answer for too long; then something else is drawn. More mistakes
// than a person makes end it.

export const MOVES = ["left", "right", "up", "down"];

export class Challenge {
  #rules;
  #left = [];
  #before = null;
  #mistakes = 0;
  #frames = 0;

  constructor(rules) {
    this.#rules = rules;
    while (!this.#left.length || this.#left.some((move, index) => move === this.#left[index + 1])) {
      this.#left = [...MOVES];
      while (this.#left.length < rules.moves) this.#left.push(drawn(MOVES));
      for (let i = this.#left.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [this.#left[i], this.#left[j]] = [this.#left[j], this.#left[i]];
      }
    }
  }

  get asked() {
    return this.lost ? null : (this.#left[0] ?? null);
  }

  get left() {
    return this.#left.length;
  }

  get lost() {
    return this.#mistakes > this.#rules.mistakes;
  }

  // Whether a frame shows what is asked, in degrees off this head's own straight ahead; counts mistakes.
  shows(yaw, pitch) {
    const asked = this.asked;
    if (asked === null) return false;
    this.#frames++;
    const degrees = { left: yaw, right: -yaw, up: -pitch, down: pitch }[asked];
    if (degrees >= (asked === "up" || asked === "down" ? this.#rules.tilt : this.#rules.turn)) return true;
    const shown = this.#clear(yaw, pitch);
    if (this.#frames > this.#rules.patience || ![null, asked, this.#before].includes(shown)) {
      this.#mistakes++;
      [this.#before, this.#frames] = [shown, 0];
      this.#left.unshift(drawn(MOVES.filter((move) => move !== asked && move !== shown)));
    }
    return false;
  }

  // Go on to the next move: the frame that showed the last one was taken.
  answered() {
    this.#before = this.#left.shift();
    this.#frames = 0;
  }

  // The move that a head clearly makes, whatever was asked.
  #clear(yaw, pitch) {
    if (Math.abs(yaw) >= this.#rules.turn) return yaw > 0 ? "left" : "right";
    if (Math.abs(pitch) >= this.#rules.clear_tilt) return pitch > 0 ? "down" : "up";
    return null;
  }
}

const drawn = (moves) => moves[below(moves.length)];

// 0 to n-1, all as likely: what would favour some is drawn again.
function below(n) {
  for (;;) {
    const [byte] = crypto.getRandomValues(new Uint8Array(1));
    if (byte < 256 - (256 % n)) return byte % n;
  }
}
