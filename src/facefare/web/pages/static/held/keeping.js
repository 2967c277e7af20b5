// What this phone keeps, in this browser alone: the device's keys, which WebCrypto gives to nobody; the reference,
// sealed (AES-GCM); the operator's pass, the counter, and the terminals seen.
//
// The reference is sealed under a key that comes from the passkey (PRF extension, HKDF), and once more under a recovery
// code that only the payer has, for a passkey that was lost or replaced. Where passkeys give no key, a key that this
// browser holds takes their place.

import { database } from "../database.js";
import { decode, encode, join, text } from "./bytes.js";

const [PHONE, TERMINALS] = ["phone", "terminals"];
const LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"; // Crockford's base 32: no I, L, O, U

export class Locked extends Error {}

const done = database("facefare", 2, (opened) => {
  for (const old of opened.objectStoreNames) opened.deleteObjectStore(old);
  opened.createObjectStore(PHONE);
  opened.createObjectStore(TERMINALS, { keyPath: "terminal" });
});

// --- the phone: { owner, device, id, operatorKey, copies, model, selfMade, pass, counter, made } ---

export const phone = () => done(PHONE, "readonly", (store) => store.get("mine"));
export const forget = () => done(PHONE, "readwrite", (store) => store.clear());

const write = (record) => done(PHONE, "readwrite", (store) => store.put(record, "mine"));

export async function keep(record) {
  await write(record);
  lasting();
}

export async function change(changes) {
  await write({ ...(await phone()), ...changes });
}

// Asks that the browser doesn't make room by forgetting what is kept. Nothing waits for the answer: some browsers ask
// the person, who may leave that open.
export function lasting() {
  navigator.storage?.persist?.().catch(() => {});
}

// A counter that was never used: raised on the disk before anybody gets to see it.
export async function nextCounter() {
  let counter = 0;
  await done(PHONE, "readwrite", (store) => {
    const reading = store.get("mine");
    reading.onsuccess = () => store.put({ ...reading.result, counter: (counter = reading.result.counter + 1) }, "mine");
    return reading;
  });
  return counter;
}

// --- the reference ---

// Seals a holding; { copies, by, recoveryCode }, the last two for the person to see.
export async function sealed(holding, hasPasskey) {
  const salt = crypto.getRandomValues(new Uint8Array(32));
  const fromPasskey = hasPasskey ? await keyFromPasskey(salt) : null;
  if (!fromPasskey) {
    const key = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
    return { copies: [{ by: "browser", key, ...(await locked(holding, key)) }], by: "browser", recoveryCode: null };
  }
  const secret = crypto.getRandomValues(new Uint8Array(16));
  const copies = [
    { by: "passkey", salt, ...(await locked(holding, fromPasskey)) },
    { by: "recovery", ...(await locked(holding, await derived(secret, "facefare: recovery code"))) },
  ];
  return { copies, by: "passkey", recoveryCode: written(secret) };
}

// The holding, once the passkey (or this browser) opened it; raises Locked.
export async function opened({ copies }) {
  const copy = copies.find(({ by }) => by !== "recovery");
  const key = copy.key ?? (await keyFromPasskey(copy.salt));
  if (!key) throw new Locked("no passkey");
  return unlocked(copy, key);
}

// With the recovery code, for a passkey that was lost: sealed anew under the one that is there now.
export async function recovered(record, code) {
  const copy = record.copies.find(({ by }) => by === "recovery");
  const secret = read(code);
  if (!copy || !secret) throw new Locked("recovery code");
  const holding = await unlocked(copy, await derived(secret, "facefare: recovery code"));
  const again = await sealed(holding, true);
  await change({ copies: again.copies });
  return { holding, ...again };
}

async function locked(holding, key) {
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const plain = encode({ model: holding.model, reference: holding.reference, salt: holding.salt });
  return { iv, sealed: await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, plain) };
}

async function unlocked({ iv, sealed: box }, key) {
  try {
    return decode(new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, box)));
  } catch {
    throw new Locked("another key");
  }
}

async function keyFromPasskey(salt) {
  let credential;
  try {
    credential = await navigator.credentials.get({
      publicKey: {
        challenge: crypto.getRandomValues(new Uint8Array(32)), // nobody checks it: only the secret is wanted
        userVerification: "required",
        timeout: 60_000,
        extensions: { prf: { eval: { first: salt } } },
      },
    });
  } catch (error) {
    if (error.name === "NotAllowedError") return null; // the person said no, or the passkey is elsewhere
    throw error;
  }
  const secret = credential.getClientExtensionResults().prf?.results?.first;
  return secret ? derived(new Uint8Array(secret), "facefare: reference on this device") : null;
}

async function derived(secret, info) {
  const material = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  return crypto.subtle.deriveKey(
    { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info: text(info) },
    material,
    { name: "AES-GCM", length: 256 },
    false,
    ["encrypt", "decrypt"],
  );
}

// 16 bytes as 26 letters in groups, and back; null where it is no such code.
function written(secret) {
  let bits = join(secret, Uint8Array.of(0)).reduce((number, byte) => (number << 8n) | BigInt(byte), 0n) >> 6n;
  let letters = "";
  for (let i = 0; i < 26; i++, bits >>= 5n) letters = LETTERS[Number(bits & 31n)] + letters;
  return letters.match(/.{1,5}/g).join("-");
}

function read(code) {
  const letters = code.toUpperCase().replace(/[\s-]/g, "").replace(/[IL]/g, "1").replace(/O/g, "0");
  if (!/^[0-9A-HJKMNP-TV-Z]{26}$/.test(letters)) return null;
  let bits = [...letters].reduce((number, letter) => (number << 5n) | BigInt(LETTERS.indexOf(letter)), 0n) >> 2n;
  const secret = new Uint8Array(16);
  for (let i = 15; i >= 0; i--, bits >>= 8n) secret[i] = Number(bits & 255n);
  return secret;
}

// --- terminals: { terminal, place, announcement (bytes), usedAt } ---

export const terminals = () => done(TERMINALS, "readonly", (store) => store.getAll());

export async function keepTerminals(list) {
  const used = new Map((await terminals()).map(({ terminal, usedAt }) => [terminal, usedAt]));
  await done(TERMINALS, "readwrite", (store) => {
    store.clear();
    for (const one of list) store.put({ ...one, usedAt: used.get(one.terminal) ?? 0 });
  });
}

export const keepTerminal = (one) => done(TERMINALS, "readwrite", (store) => store.put(one));
