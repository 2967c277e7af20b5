// A payer's device: its keys, its reference, and the codes it shows. The bytes are those of
// facefare.identification.held; this file draws nothing, stores nothing and sends nothing.
//
// A device: { key, sealing } (WebCrypto pairs, Ed25519 and X25519). A holding: { reference, salt, model }.
// A pass, as the wallet gives it, in bytes: { operator, selfMade, throughDay, signature }.

import { decode, encode, join, open, same, seal, sha256, sign, text, verified } from "./bytes.js";

export const LIFETIME = 30; // seconds that a code is good for
export const MAX_BYTES = 400;

// Why no code can be made for a terminal.
export class OtherOperator extends Error {}
export class OtherModel extends Error {}
export class OldTerminalKey extends Error {}

// Neither private key can be read out of WebCrypto again; IndexedDB keeps such pairs.
export async function newDevice() {
  return {
    key: await crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]),
    sealing: await crypto.subtle.generateKey("X25519", false, ["deriveBits"]),
  };
}

export const publicKey = async (pair) => new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));

export const operatorId = async (operatorKey) => (await sha256(operatorKey)).slice(0, 8);

export const keyId = async (key) => (await sha256(key)).slice(0, 8);

export const commitment = (holding) => sha256(text("facefare/held-reference/1"), holding.salt, holding.reference);

// A template (Float32Array of D) as D bytes; calibration: { model, mean, scale, min_squared_norm, max_squared_norm }.
export function ownHolding(template, calibration) {
  const length = Math.hypot(...template);
  const whole = Array.from(template, (value, i) => even(calibration.scale * (value / length - calibration.mean[i])));
  const norm = whole.reduce((sum, value) => sum + value * value, 0);
  const fits = whole.every((value) => value >= -128 && value <= 127);
  if (!fits || !(norm >= calibration.min_squared_norm && norm <= calibration.max_squared_norm)) {
    throw new Error("The template is unlike any face's; take the pictures again.");
  }
  return {
    reference: new Uint8Array(Int8Array.from(whole).buffer),
    salt: crypto.getRandomValues(new Uint8Array(16)),
    model: calibration.model,
  };
}

function even(value) {
  const down = Math.floor(value);
  const rest = value - down;
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down;
}

// What POST /v1/payers/me/devices takes, as bytes; `attestation` is the station's, where there is one.
export async function registration(device, holding, { operator, consentSha256, attestation = null }) {
  const committed = await commitment(holding);
  const payload = encode(["facefare/device-registration/1", operator, consentSha256, committed]);
  return {
    publicKey: await publicKey(device.key),
    commitment: committed,
    proof: await sign(device.key.privateKey, payload),
    attestation,
  };
}

// What the device shows to an enrolment station.
export async function handoverRequest(device, consentSha256) {
  return encode({
    v: 1,
    kind: "handover-request",
    device_key: await publicKey(device.key),
    sealing_key: await publicKey(device.sealing),
    consent_sha256: consentSha256,
  });
}

// What the station gave back: the holding, and the attestation to register with.
export async function takeHandover(sealed, device) {
  const own = await publicKey(device.key);
  const plain = await open(sealed, device.sealing, join(text("facefare/held-handover/1"), own));
  const { reference, salt, attestation } = decode(plain);
  const said = decode(decode(attestation).payload);
  const holding = { reference, salt, model: said.model };
  if (!same(said.device_key, own) || !same(said.commitment, await commitment(holding))) {
    throw new Error("The station attested another device or another reference.");
  }
  return { holding, attestation };
}

// A terminal's key, once the operator's signature was found right.
export const terminalOf = (announcement, operatorKey) => verified(announcement, "terminal-key", operatorKey);

// The bytes to show. Store the counter, raised, before calling: a counter is used once. `now` in seconds.
export async function makeCode({ device, holding, pass, terminal, counter, now = Math.floor(Date.now() / 1000) }) {
  if (!same(pass.operator, terminal.operator)) throw new OtherOperator("This terminal is another operator's.");
  if (holding.model !== terminal.model) throw new OtherModel("This terminal compares faces by another model.");
  if (now < terminal.not_before - LIFETIME || now > terminal.not_after) {
    throw new OldTerminalKey("The terminal's key is not valid now; fetch the new one.");
  }
  const expires = now + LIFETIME;
  const named = await keyId(terminal.public_key);
  const statement = ["facefare/held-payment/1", pass.operator, named, await commitment(holding), counter, expires];
  const inner = encode([
    pass.operator,
    holding.reference,
    holding.salt,
    await publicKey(device.key),
    counter,
    expires,
    await sign(device.key.privateKey, encode(statement)),
    pass.selfMade ? 1 : 0,
    pass.throughDay,
    pass.signature,
  ]);
  const sealed = await seal(inner, terminal.public_key, join(text("facefare/held-code/1"), named));
  const code = encode([1, named, sealed]);
  if (code.length > MAX_BYTES) throw new Error("This reference is too large for a code.");
  return code;
}
