// Reads QR codes with this device's camera, where the browser can do that.

export const canScan = "BarcodeDetector" in window;

// Shows the camera in `video` and hands what each code says to `use`, until that says true or `end` is called.
export class Scan {
  #stream = null;
  #video;

  constructor(video) {
    this.#video = video;
  }

  async run(use) {
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    this.#stream = await navigator.mediaDevices.getUserMedia({ audio: false, video: { facingMode: "environment" } });
    this.#video.srcObject = this.#stream;
    this.#video.hidden = false;
    await this.#video.play();
    while (this.#stream) {
      const [found] = await detector.detect(this.#video);
      if (found && (await use(found.rawValue))) return this.end();
      await new Promise((wait) => setTimeout(wait, 200));
    }
  }

  end() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#stream = this.#video.srcObject = null;
    this.#video.hidden = true;
  }
}
