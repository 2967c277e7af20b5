// Keeps the reference on this device, encrypted (AES-GCM). The key comes from the passkey (PRF extension, HKDF) where
// the device can do that; elsewhere it is a key that this browser holds and gives to nobody, page scripts included.

const STORE = "reference";

function database() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("facefare", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

async function done(mode, act) {
  const opened = await database();
  try {
    return await new Promise((resolve, reject) => {
      const request = act(opened.transaction(STORE, mode).objectStore(STORE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } finally {
    opened.close();
  }
}

async function keyFromPasskey(salt) {
  const credential = await navigator.credentials.get({
    publicKey: {
      challenge: crypto.getRandomValues(new Uint8Array(32)), // nobody checks it: only the secret is wanted
      userVerification: "required",
      timeout: 60_000,
      extensions: { prf: { eval: { first: salt } } },
    },
  });
  const secret = credential.getClientExtensionResults().prf?.results?.first;
  if (!secret) return null;
  const material = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  const info = new TextEncoder().encode("facefare: reference on this device");
  return crypto.subtle.deriveKey(
    { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info },
    material,
    { name: "AES-GCM", length: 256 },
    false,
    ["encrypt", "decrypt"],
  );
}

export async function keep(reference, model, passkey) {
  const salt = crypto.getRandomValues(new Uint8Array(32));
  let key = null;
  try {
    if (passkey) key = await keyFromPasskey(salt);
  } catch (error) {
    if (error.name !== "NotAllowedError") throw error; // the person said no, or the passkey is elsewhere
  }
  const heldHere = key ? null : await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key ?? heldHere, reference);
  await done("readwrite", (store) => store.put({ sealed, iv, salt, model, key: heldHere, made: new Date() }, "mine"));
  return key ? "passkey" : "browser";
}

export async function recall() {
  const kept = await done("readonly", (store) => store.get("mine"));
  if (!kept) return null;
  const key = kept.key ?? (await keyFromPasskey(kept.salt));
  return new Float32Array(await crypto.subtle.decrypt({ name: "AES-GCM", iv: kept.iv }, key, kept.sealed));
}

export const isKept = () => done("readonly", (store) => store.getKey("mine")).then((found) => found !== undefined);
export const forget = () => done("readwrite", (store) => store.delete("mine"));
