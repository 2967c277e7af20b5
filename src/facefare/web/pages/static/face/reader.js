// From frames to one reference, on this device. The counterpart of biometrics/pipeline.py and of the station's
// guided capture. A frame is dropped as soon as it was looked at; of a view only its template stays, in memory.

import { Challenge } from "./challenge.js";
import { detector } from "./detector.js";
import { dot, embedder, fused } from "./embedder.js";
import { mesher } from "./landmarks.js";
import { blinked, parallax } from "./liveness.js";
import { load, start } from "./networks.js";
import { rgb } from "./pictures.js";
import { eyeDistance, headPose, hint, measure } from "./quality.js";

const MIN_PRESENCE = 0.5;

export class Reader {
  static async load({ wasm, models, face }) {
    start(wasm);
    const reader = new Reader();
    reader.face = face;
    reader.detect = detector(await load(models.detector));
    reader.locate = mesher(await load(models.mesher));
    reader.embedder = embedder(await load(models.embedder), face.embedder);
    return reader;
  }

  async observe(frame) {
    const faces = [];
    for (const found of await this.detect(frame)) {
      const mesh = await this.locate(frame, found);
      if (mesh.presence >= MIN_PRESENCE) faces.push(mesh);
    }
    return faces;
  }

  async template(frame, { points }) {
    return this.embedder.embed(this.embedder.align(frame, points));
  }
}

// Asked for one by one; each view has to look like the first one's person.
export class Capture {
  #reader;
  #challenge;
  #templates = [];
  #ahead = null;
  #eyes = [];
  #blinked = false;
  #flat = 0;

  constructor(reader) {
    this.#reader = reader;
    this.forget();
  }

  // What is asked for now; null when the capture is complete.
  get asked() {
    const { asks } = this.#reader.face;
    if (!this.#ahead) return asks.ahead;
    return this.#challenge.asked ? asks.moves[this.#challenge.asked] : this.#blinked ? null : asks.blink;
  }

  // { hint, asked, left, ended }: `ended` says why the capture is over and has forgotten everything.
  async offer(image) {
    const frame = rgb(image);
    const faces = await this.#reader.observe(frame);
    let [hint, ended] = [null, null];
    if (faces.length !== 1) hint = faces.length ? "one person at a time" : "look at the camera";
    else if (this.asked) [hint, ended] = await this.#look(frame, faces[0]);
    if (ended) this.forget();
    const left = (this.#ahead ? 0 : 1) + this.#challenge.left + (this.#blinked ? 0 : 1);
    return { hint, ended, asked: this.asked, left };
  }

  // The reference; the views are forgotten.
  finish() {
    if (this.asked) throw new Error("The capture is not complete.");
    const reference = fused(this.#templates);
    this.forget();
    return reference;
  }

  forget() {
    [this.#templates, this.#eyes, this.#ahead, this.#blinked, this.#flat] = [[], [], null, false, 0];
    this.#challenge = new Challenge(this.#reader.face.asks.challenge);
  }

  async #look(frame, face) {
    const { mesh, policy, asks, same_person: alike } = this.#reader.face;
    const pose = headPose(face.points, mesh);
    const quality = measure(face, pose, mesh);
    if (this.asked === asks.blink) {
      this.#eyes = [...this.#eyes, quality.eyes_open].slice(-asks.most_blink_frames);
      this.#blinked = blinked(this.#eyes, asks.closed);
      return [null, null];
    }
    const told = hint(pose, quality, policy);
    const shown = this.#shows(pose, face.points);
    if (this.#challenge.lost) return [null, "not as asked"];
    if (this.#flat >= asks.flat_turns) return [null, "not live"];
    if (told || !shown) return [told, null];
    const template = await this.#reader.template(frame, face);
    if (!this.#templates.every((other) => dot(template, other) >= alike)) return [null, "not one person"];
    this.#templates.push(template);
    if (this.#ahead) this.#challenge.answered();
    else this.#ahead = { pose, points: face.points };
    return [null, null];
  }

  // Whether the face shows what is asked; every frame counts, good or not, so that no move goes unseen.
  #shows(pose, points) {
    const { mesh, asks } = this.#reader.face;
    if (!this.#ahead) return Math.abs(pose.yaw) <= asks.straight && Math.abs(pose.pitch) <= asks.straight;
    const move = this.#challenge.asked;
    const shown = this.#challenge.shows(pose.yaw - this.#ahead.pose.yaw, pose.pitch - this.#ahead.pose.pitch);
    if (!shown || move === "up" || move === "down") return shown;
    const deep = parallax(this.#ahead.points, points, eyeDistance(this.#ahead.points, mesh)) >= asks.parallax;
    if (!deep) this.#flat++;
    return deep;
  }
}
