// From frames to one reference, on this device. The counterpart of biometrics/pipeline.py and of the station's
// guided capture. A frame is dropped as soon as it was looked at; of a view only its template stays, in memory.

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

// Asked for one by one, in an order that nobody can foresee; each view has to look like the first one's person.
export class Capture {
  #reader;
  #left;
  #templates = [];
  #ahead = null;
  #eyes = [];
  #flat = 0;

  constructor(reader) {
    this.#reader = reader;
    const { ahead, turns, tilts, blink } = reader.face.asks;
    this.#left = [ahead, ...shuffled(turns), ...shuffled(tilts), blink];
  }

  // { hint, asked, left, ended }: `ended` says why the capture is over and has forgotten everything.
  async offer(image) {
    const frame = rgb(image);
    const faces = await this.#reader.observe(frame);
    let hint = null;
    let ended = null;
    if (faces.length !== 1) hint = faces.length ? "one person at a time" : "look at the camera";
    else if (this.#left.length) [hint, ended] = await this.#look(frame, faces[0]);
    if (ended) this.forget();
    return { hint, ended, asked: this.#left[0] ?? null, left: this.#left.length };
  }

  // The reference; the views are forgotten.
  finish() {
    if (this.#left.length) throw new Error("The capture is not complete.");
    const reference = fused(this.#templates);
    this.forget();
    return reference;
  }

  forget() {
    this.#templates = [];
    this.#eyes = [];
    this.#ahead = null;
  }

  async #look(frame, face) {
    const { mesh, policy, asks } = this.#reader.face;
    const [pose, asked] = [headPose(face.points, mesh), this.#left[0]];
    const quality = measure(face, pose, mesh);
    if (asked === asks.blink) {
      this.#eyes = [...this.#eyes, quality.eyes_open].slice(-asks.most_blink_frames);
      if (blinked(this.#eyes, asks.closed)) this.#left.shift();
      return [null, null];
    }
    const told = hint(pose, quality, policy);
    if (told) return [told, null];
    const shows = this.#shows(asked, pose, face.points);
    if (shows === "flat" && ++this.#flat >= asks.flat_turns) return [null, "not live"];
    if (shows !== true) return [null, null];
    const template = await this.#reader.template(frame, face);
    if (!this.#templates.every((other) => dot(template, other) >= this.#reader.face.same_person)) return [null, "not one person"];
    this.#templates.push(template);
    this.#ahead ??= { pose, points: face.points };
    this.#left.shift();
    return [null, null];
  }

  #shows(asked, pose, points) {
    const { mesh, asks } = this.#reader.face;
    if (!this.#ahead) return Math.abs(pose.yaw) <= asks.straight && Math.abs(pose.pitch) <= asks.straight;
    const tilt = pose.pitch - this.#ahead.pose.pitch;
    if (asked === asks.tilts[0]) return tilt <= -asks.min_tilt;
    if (asked === asks.tilts[1]) return tilt >= asks.min_tilt;
    const turned = (pose.yaw - this.#ahead.pose.yaw) * (asked === asks.turns[0] ? 1 : -1);
    if (turned < asks.min_turn) return false;
    return parallax(this.#ahead.points, points, eyeDistance(this.#ahead.points, mesh)) >= asks.parallax ? true : "flat";
  }
}

function shuffled(two) {
  return crypto.getRandomValues(new Uint8Array(1))[0] & 1 ? two : [two[1], two[0]];
}
