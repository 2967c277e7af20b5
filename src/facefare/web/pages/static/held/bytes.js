// Bytes of the payer-held key profile: plain CBOR (RFC 8949), HPKE (RFC 9180) and Ed25519 on WebCrypto alone.
// HPKE suite: X25519, HKDF-SHA256, AES-128-GCM, base mode, no aad; sealed = encapsulated key (32) and ciphertext.

const utf8 = new TextEncoder();

export const text = (string) => utf8.encode(string);

export function join(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export const same = (a, b) => a.length === b.length && a.every((value, i) => value === b[i]);

export const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

export const fromBase64 = (string) => Uint8Array.from(atob(string), (letter) => letter.charCodeAt(0));

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", join(...parts)));
}

// --- CBOR: unsigned integers, byte strings, texts, booleans, arrays, maps with text keys ---

export function encode(value) {
  if (value instanceof Uint8Array) return join(head(2, value.length), value);
  if (typeof value === "string") return join(head(3, text(value).length), text(value));
  if (typeof value === "boolean") return Uint8Array.of(value ? 0xf5 : 0xf4);
  if (Number.isSafeInteger(value) && value >= 0) return head(0, value);
  if (Array.isArray(value)) return join(head(4, value.length), ...value.map(encode));
  const fields = Object.entries(value);
  return join(head(5, fields.length), ...fields.map(([name, field]) => join(encode(name), encode(field))));
}

function head(major, value) {
  const kind = major << 5;
  if (value < 24) return Uint8Array.of(kind | value);
  if (value < 2 ** 8) return Uint8Array.of(kind | 24, value);
  const [size, letter] = value < 2 ** 16 ? [2, 25] : value < 2 ** 32 ? [4, 26] : [8, 27];
  const bytes = new Uint8Array(1 + size);
  bytes[0] = kind | letter;
  for (let i = size, rest = value; i > 0; i--, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  return bytes;
}

export function decode(bytes) {
  let at = 0;
  const take = (count) => {
    if (at + count > bytes.length) throw new Error("CBOR ends too early.");
    return bytes.slice(at, (at += count));
  };
  const number = (info) => {
    if (info < 24) return info;
    if (info > 27) throw new Error("CBOR with a length that is not plain.");
    return take(2 ** (info - 24)).reduce((sum, byte) => sum * 256 + byte, 0);
  };
  const item = () => {
    const [first] = take(1);
    const major = first >> 5;
    const info = first & 31;
    if (major === 7 && (info === 20 || info === 21)) return info === 21;
    const value = number(info);
    if (major === 0) return value;
    if (major === 2) return take(value);
    if (major === 3) return new TextDecoder("utf-8", { fatal: true }).decode(take(value));
    if (major === 4) return Array.from({ length: value }, item);
    if (major === 5) return Object.fromEntries(Array.from({ length: value }, () => [item(), item()]));
    throw new Error("CBOR of a kind that is not used here.");
  };
  const value = item();
  if (at !== bytes.length) throw new Error("CBOR with something after its end.");
  return value;
}

// --- signatures ---

export async function sign(privateKey, payload) {
  return new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, payload));
}

// The fields of a signed document, once its signature was found to be by the raw public key.
export async function verified(document, kind, publicKey) {
  const { payload, signature } = decode(document);
  const key = await crypto.subtle.importKey("raw", publicKey, "Ed25519", false, ["verify"]);
  if (!(await crypto.subtle.verify("Ed25519", key, signature, payload))) throw new Error("The signature is wrong.");
  const fields = decode(payload);
  if (fields.v !== 1 || fields.kind !== kind) throw new Error(`This is no ${kind}.`);
  return fields;
}

// --- HPKE ---

const VERSION = text("HPKE-v1");
const KEM = join(text("KEM"), Uint8Array.of(0, 0x20));
const SUITE = join(text("HPKE"), Uint8Array.of(0, 0x20, 0, 1, 0, 1));
const NOTHING = new Uint8Array(0);

export async function seal(plain, recipient, info) {
  const own = await crypto.subtle.generateKey("X25519", true, ["deriveBits"]);
  const enc = new Uint8Array(await crypto.subtle.exportKey("raw", own.publicKey));
  const [key, iv] = await schedule(await agree(own.privateKey, recipient), enc, recipient, info, "encrypt");
  return join(enc, new Uint8Array(await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, plain)));
}

export async function open(sealed, pair, info) {
  const enc = sealed.slice(0, 32);
  const recipient = new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey));
  const [key, iv] = await schedule(await agree(pair.privateKey, enc), enc, recipient, info, "decrypt");
  return new Uint8Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv }, key, sealed.slice(32)));
}

async function agree(privateKey, publicKey) {
  const other = await crypto.subtle.importKey("raw", publicKey, "X25519", false, []);
  return new Uint8Array(await crypto.subtle.deriveBits({ name: "X25519", public: other }, privateKey, 256));
}

async function schedule(shared, enc, recipient, info, use) {
  const prk = await extract(KEM, NOTHING, "eae_prk", shared);
  const secret = await expand(KEM, prk, "shared_secret", join(enc, recipient), 32);
  const context = join(
    Uint8Array.of(0),
    await extract(SUITE, NOTHING, "psk_id_hash", NOTHING),
    await extract(SUITE, NOTHING, "info_hash", info),
  );
  const main = await extract(SUITE, secret, "secret", NOTHING);
  const key = await expand(SUITE, main, "key", context, 16);
  const iv = await expand(SUITE, main, "base_nonce", context, 12);
  return [await crypto.subtle.importKey("raw", key, "AES-GCM", false, [use]), iv];
}

const extract = (suite, salt, label, input) => hmac(salt, join(VERSION, suite, text(label), input));

// One block of HKDF-Expand is enough: nothing here is longer than 32 bytes.
async function expand(suite, key, label, info, length) {
  const labelled = join(Uint8Array.of(0, length), VERSION, suite, text(label), info, Uint8Array.of(1));
  return (await hmac(key, labelled)).slice(0, length);
}

async function hmac(secret, data) {
  // WebCrypto takes no empty key; HMAC fills keys up with zeros anyway.
  const raw = secret.length ? secret : new Uint8Array(32);
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, data));
}
