// A payer's own row as the three guardians open it: asked for with the payer's check key, sealed to a one-time key, and
// signed with the keys of their public logs, so that who carries it can't make it up. Bytes: docs/wire-format.md.

import { decode, encode, fromBase64, open, same, sha256, sign, text } from "../held/bytes.js";

export class MadeUp extends Error {}
export class Differ extends Error {}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const raw = async (key) => new Uint8Array(await crypto.subtle.exportKey("raw", key));

// Its private half can't be read out of WebCrypto again; IndexedDB keeps it.
export const newCheckKey = () => crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"]);

export const nameOf = async (pair) => hex(await raw(pair.publicKey));

// What the payer sends: { gallery, openingId, recipient, request (bytes) }. `now` in ms.
export async function asked({ gallery, row }, checkKey, now = Date.now()) {
  const recipient = await crypto.subtle.generateKey("X25519", true, ["deriveBits"]);
  const openingId = crypto.getRandomValues(new Uint8Array(16));
  const fields = { v: 1, gallery, row, recipient: await raw(recipient.publicKey), opening_id: openingId, issued_at: now };
  const payload = encode(fields);
  const request = encode({ payload, signature: await sign(checkKey.privateKey, payload) });
  return { gallery, openingId, recipient, request };
}

// The running xor { value (BigInt), era, since (ms) } of `sealed` and `signatures` (base64 of three guardians each);
// `logs`: the verifier keys of their logs. Raises MadeUp or Differ.
export async function read({ gallery, openingId, recipient }, { sealed, signatures }, logs) {
  const parts = [];
  for (const [guardian, log] of logs.entries()) {
    const box = fromBase64(sealed[guardian]);
    const said = ["facefare opened row", gallery, guardian, hex(openingId), hex(await sha256(box))];
    const key = await crypto.subtle.importKey("raw", await publicKey(log), "Ed25519", false, ["verify"]);
    const statement = text(said.map((line) => `${line}\n`).join(""));
    if (!(await crypto.subtle.verify("Ed25519", key, fromBase64(signatures[guardian]), statement))) {
      throw new MadeUp(`guardian ${guardian}`);
    }
    const info = encode(["facefare-opened-row-1", gallery, guardian, openingId]);
    const [form, named, era, since, taken, own, following] = decode(await open(box, recipient, info));
    if (form !== 2 || named !== guardian) throw new Differ("form");
    parts.push({ era, since, taken, own, following });
  }
  const [{ era, since, taken }] = parts;
  for (const [i, part] of parts.entries()) {
    const fits = same(part.following, parts[(i + 1) % parts.length].own);
    if (!fits || part.era !== era || part.since !== since || part.taken !== taken) throw new Differ("components");
  }
  return { value: parts.reduce((value, { own }) => value ^ BigInt(`0x${hex(own)}`), 0n), era, since };
}

// What `facefare audit my-log` takes beside the access log.
export async function forProgram({ gallery, openingId, recipient }, { sealed, signatures }) {
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey("pkcs8", recipient.privateKey));
  return {
    gallery,
    opening_id: hex(openingId),
    one_time_key: hex(pkcs8.slice(-32)), // RFC 8410: the key ends it
    sealed: sealed.map((part) => hex(fromBase64(part))),
    signatures: signatures.map((part) => hex(fromBase64(part))),
  };
}

// The 32 bytes in a log's verifier key, name+id+base64 (C2SP signed-note).
async function publicKey(verifier) {
  const [, name, id, encoded] = /^([^+]+)\+([0-9a-f]{8})\+(.+)$/.exec(verifier);
  const bytes = fromBase64(encoded);
  const digest = await sha256(text(`${name}\n`), bytes);
  if (bytes[0] !== 1 || bytes.length !== 33 || hex(digest.slice(0, 4)) !== id) throw new Differ("log key");
  return bytes.slice(1);
}
