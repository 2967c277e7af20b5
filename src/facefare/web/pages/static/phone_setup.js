// Sets this phone up to pay with a code: a reference from this phone's own camera or from a station, sealed, registered.

import { base64, fromBase64 } from "./held/bytes.js";
import { Capture, Ended } from "./held/capture.js";
import { handoverRequest, newDevice, ownHolding, takeHandover } from "./held/code.js";
import { phone, sealed } from "./held/keeping.js";
import { asked, Refused, setUp } from "./held/phone.js";
import { draw } from "./held/qr.js";
import { canScan, Scan } from "./scan.js";
import { parts, say, step } from "./steps.js";

const { start, station, stop, back, take, handed, scan, scanner, lock, written, recovery, video, views, progress, request } = parts;
const page = document.getElementById("phone");
const passkey = page.dataset.passkey === "yes";

let capture = null;
const scanning = new Scan(scanner);
let brought = null; // { device, holding, attestation }, until it is sealed

async function setting() {
  const found = await asked("phone/setting");
  if (!found.consent_sha256) location.assign("/app/consent");
  return found;
}

function stopAll() {
  capture?.end();
  scanning.end();
  capture = null;
}

function failed(error) {
  stopAll();
  step(brought ? "locking" : "ready");
  if (error instanceof Refused) say(null, error.message);
  else if (error instanceof Ended) say(error.message);
  else say({ NotAllowedError: "camera refused", NotFoundError: "no camera" }[error.name] ?? "failed");
}

start.addEventListener("click", async () => {
  try {
    step("loading");
    say("loading");
    const { calibration } = await setting();
    const mine = (capture = new Capture(video));
    const face = await mine.open((here, whole) => {
      progress.max = whole;
      progress.value = here;
    });
    step("looking");
    views.max = 2 + face.asks.challenge.moves;
    let before = null;
    const template = await mine.run(({ hint, asked: next, left }) => {
      views.value = views.max - left;
      const name = hint ?? next ?? "good";
      // What one frame alone says would flicker, and nobody could read or hear it.
      if (name === before || page.dataset.asked !== next) say(name);
      [before, page.dataset.asked] = [name, next];
    });
    if (!template) return; // stopped
    stopAll();
    brought = { device: await newDevice(), holding: ownHolding(template, calibration), attestation: null };
    template.fill(0);
    ready();
  } catch (error) {
    failed(error);
  }
});

station.addEventListener("click", async () => {
  try {
    const { consent_sha256 } = await setting();
    const device = await newDevice();
    const shown = await handoverRequest(device, fromBase64(consent_sha256));
    draw(shown, request);
    request.dataset.bytes = base64(shown);
    take.onclick = () => taken(device, handed.value.replace(/\s/g, "")).catch(() => say("not for this phone"));
    scan.hidden = !canScan;
    scan.onclick = () => scanning.run((text) => taken(device, text).then(() => true, () => say("not for this phone"))).catch(failed);
    step("station");
    say(null, "");
  } catch (error) {
    failed(error);
  }
});

async function taken(device, text) {
  brought = { device, ...(await takeHandover(fromBase64(text), device)) };
  stopAll();
  ready();
}

function ready() {
  step("locking");
  say(passkey ? "lock it" : "keep it");
  lock.focus();
}

lock.addEventListener("click", async () => {
  lock.disabled = true;
  try {
    const { copies, by, recoveryCode } = await sealed(brought.holding, passkey);
    await setUp({ ...brought, copies, setting: await setting() });
    brought.holding.reference.fill(0);
    brought = null;
    recovery.textContent = recoveryCode ?? "";
    step(recoveryCode ? "written" : "kept");
    say(`kept by ${by}`);
  } catch (error) {
    failed(error);
  } finally {
    lock.disabled = false;
  }
});

written.addEventListener("click", () => {
  recovery.textContent = "";
  step("kept");
});

for (const button of [stop, back]) {
  button.addEventListener("click", () => {
    stopAll();
    step("ready");
    say("stopped");
  });
}

addEventListener("pagehide", stopAll);
phone().then((kept) => step(kept?.owner === page.dataset.owner ? "kept" : "ready"));
