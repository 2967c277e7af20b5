// The guided capture: camera to template, all in this browser. Nothing of the face is ever sent.

export class Ended extends Error {}

export class Capture {
  #canvas = new OffscreenCanvas(640, 480);
  #pen = this.#canvas.getContext("2d", { willReadFrequently: true });
  #worker = null;
  #stream = null;
  #video;
  #over = false;

  constructor(video) {
    this.#video = video;
  }

  // Loads the networks and opens the camera; `arrived(part, whole)` hears of the bytes.
  async open(arrived) {
    const wanted = { audio: false, video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } } };
    const opening = navigator.mediaDevices.getUserMedia(wanted).then((stream) => {
      this.#stream = stream;
      if (this.#over) this.end();
    });
    const [face] = await Promise.all([this.#load(arrived), opening]);
    this.#video.srcObject = this.#stream;
    await this.#video.play();
    return face;
  }

  // The template, once everything that is asked for was seen; null if it was stopped. `told(looked)` hears of each frame.
  async run(told) {
    while (this.#stream) {
      const looked = await this.#asked("look", { image: this.#frame() });
      if (!this.#stream) return null;
      if (looked.ended) throw new Ended(looked.ended);
      told(looked);
      if (!looked.asked) return (await this.#asked("finish")).reference;
    }
    return null;
  }

  end() {
    this.#over = true;
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#worker?.terminate();
    this.#stream = this.#worker = this.#video.srcObject = null;
    this.#pen.clearRect(0, 0, 640, 480);
  }

  #frame() {
    const { videoWidth, videoHeight } = this.#video;
    const side = Math.min(videoWidth / 640, videoHeight / 480);
    const [width, height] = [640 * side, 480 * side];
    this.#pen.drawImage(this.#video, (videoWidth - width) / 2, (videoHeight - height) / 2, width, height, 0, 0, 640, 480);
    return { width: 640, height: 480, data: this.#pen.getImageData(0, 0, 640, 480).data };
  }

  async #load(arrived) {
    const face = await (await fetch("/app/assets/face.json")).json();
    const files = [face.files.wasm, face.files.detector, face.files.mesher, face.files.embedder];
    const whole = files.reduce((sum, { bytes }) => sum + bytes, 0);
    let here = 0;
    const [wasm, detector, mesher, embedder] = await Promise.all(
      files.map((file) => brought(file, (bytes) => arrived((here += bytes), whole))),
    );
    this.#worker = new Worker("/app/static/face/worker.js", { type: "module" });
    await this.#asked("load", { wasm, models: { detector, mesher, embedder }, face }, [wasm, detector, mesher, embedder]);
    return face;
  }

  #asked(ask, parts = {}, transfer = []) {
    const worker = this.#worker;
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
}

async function brought({ url, bytes }, arrived) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  const data = new Uint8Array(bytes);
  const reader = response.body.getReader();
  for (let filled = 0; ; ) {
    const { done, value } = await reader.read();
    if (done) return data.buffer;
    data.set(value, filled);
    filled += value.length;
    arrived(value.length);
  }
}
