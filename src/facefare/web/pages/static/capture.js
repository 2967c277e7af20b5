// The guided capture: camera to reference, all in this browser. Nothing of the face is ever sent.

import { forget, isKept, keep } from "./face/keeping.js";

const page = document.getElementById("capture");
const [start, stop, again, video, told, views, progress] = ["start", "stop", "forget", "video", "told", "views", "progress"].map((id) => document.getElementById(id));
const canvas = new OffscreenCanvas(640, 480);
const pen = canvas.getContext("2d", { willReadFrequently: true });

let worker = null;
let stream = null;

const say = (name) => {
  told.textContent = document.querySelector(`#sentences [data-say="${name}"]`).textContent;
};

function step(name) {
  page.dataset.step = name;
  for (const part of page.querySelectorAll("[data-steps]")) part.hidden = !part.dataset.steps.split(" ").includes(name);
}

function asked(ask, parts = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    const id = crypto.randomUUID();
    const listen = ({ data }) => {
      if (data.id !== id) return;
      worker.removeEventListener("message", listen);
      if (data.failed) reject(new Error(data.failed));
      else resolve(data);
    };
    worker.addEventListener("message", listen);
    worker.postMessage({ id, ask, ...parts }, transfer);
  });
}

async function brought({ url, bytes }, arrived) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const data = new Uint8Array(bytes);
  let filled = 0;
  for await (const part of response.body) {
    data.set(part, filled);
    filled += part.length;
    arrived(part.length);
  }
  return data.buffer;
}

async function loaded() {
  const face = await (await fetch("/app/assets/face.json")).json();
  const files = [face.files.wasm, face.files.detector, face.files.mesher, face.files.embedder];
  progress.max = files.reduce((sum, { bytes }) => sum + bytes, 0);
  progress.value = 0;
  const [wasm, ...models] = await Promise.all(files.map((file) => brought(file, (bytes) => (progress.value += bytes))));
  worker = new Worker("/app/static/face/worker.js", { type: "module" });
  const [detector, mesher, embedder] = models;
  await asked("load", { wasm, models: { detector, mesher, embedder }, face }, [wasm, ...models]);
  return face;
}

async function capture(face) {
  views.max = face.views;
  for (;;) {
    if (!stream) return null;
    const side = Math.min(video.videoWidth / 640, video.videoHeight / 480);
    const [width, height] = [640 * side, 480 * side];
    pen.drawImage(video, (video.videoWidth - width) / 2, (video.videoHeight - height) / 2, width, height, 0, 0, 640, 480);
    const { data } = pen.getImageData(0, 0, 640, 480);
    const looked = await asked("look", { image: { width: 640, height: 480, data } }, [data.buffer]);
    views.value = looked.views;
    if (looked.complete) return (await asked("finish")).reference;
    say(looked.hint ?? "good");
  }
}

function end() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  worker?.terminate();
  worker = null;
  video.srcObject = null;
  pen.clearRect(0, 0, 640, 480);
}

start.addEventListener("click", async () => {
  try {
    step("loading");
    say("loading");
    const opening = navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } } });
    const [face] = await Promise.all([loaded(), opening.then((opened) => (stream = opened))]);
    video.srcObject = stream;
    await video.play();
    step("looking");
    const reference = await capture(face);
    if (!stream) return; // stopped
    end();
    if (!reference) {
      step("ready");
      return say("not one person");
    }
    const passkey = page.dataset.passkey === "yes";
    if (passkey) say("keeping");
    const by = await keep(reference, face.embedder.model_id, passkey);
    reference.fill(0);
    step("kept");
    say(`kept by ${by}`);
  } catch (error) {
    end();
    step("ready");
    say({ NotAllowedError: "camera refused", NotFoundError: "no camera" }[error.name] ?? "failed");
  }
});

stop.addEventListener("click", () => {
  end();
  step("ready");
  say("stopped");
});

again.addEventListener("click", async () => {
  await forget();
  step("ready");
  say("forgotten");
});

addEventListener("pagehide", end);
isKept().then((kept) => step(kept ? "kept" : "ready"));
