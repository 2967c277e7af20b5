// From frames to one reference, on this device. The counterpart of biometrics/pipeline.py and of the station's
// guided capture. A frame is dropped as soon as it was looked at; of a view only its template stays, in memory.

import { detector } from "./detector.js";
import { dot, embedder, fused } from "./embedder.js";
import { mesher } from "./landmarks.js";
import { load, start } from "./networks.js";
import { rgb } from "./pictures.js";
import { headPose, hint, measure } from "./quality.js";

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

export class Capture {
  #reader;
  #poses = [];
  #templates = [];

  constructor(reader) {
    this.#reader = reader;
  }

  async offer(image) {
    const frame = rgb(image);
    const faces = await this.#reader.observe(frame);
    const { mesh, policy, apart } = this.#reader.face;
    let told = null;
    if (faces.length !== 1) {
      told = faces.length ? "one person at a time" : "look at the camera";
    } else {
      const pose = headPose(faces[0].points, mesh);
      told = hint(pose, measure(faces[0], pose, mesh), policy);
      const isNew = this.#poses.every(({ yaw, pitch }) => Math.hypot(pose.yaw - yaw, pose.pitch - pitch) >= apart);
      if (!told && isNew && !this.complete) {
        this.#poses.push(pose);
        this.#templates.push(await this.#reader.template(frame, faces[0]));
      } else if (!told && !this.complete) {
        told = "turn a little";
      }
    }
    return { hint: told, views: this.#templates.length, complete: this.complete };
  }

  get complete() {
    return this.#templates.length >= this.#reader.face.views;
  }

  // The reference, or null where the views are not of one person; either way the views are forgotten.
  finish() {
    const reference = fused(this.#templates);
    const alike = Math.min(...this.#templates.map((template) => dot(template, reference)));
    this.#templates = [];
    this.#poses = [];
    return alike >= this.#reader.face.same_person ? reference : null;
  }
}
