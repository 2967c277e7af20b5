// The payer's check keys, in this browser alone: { name (the public half, hex), consent, pair, logs (verifier keys, as
// they were when the key was made), before (the last comparison that came out right) }. A key for each consent, so that
// two enrolments of one payer have nothing in common.

import { lasting } from "../held/keeping.js";
import { nameOf, newCheckKey } from "./opening.js";

const KEYS = "keys";

function database() {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("facefare-own-log", 1);
    opening.onupgradeneeded = () => {
      opening.result.createObjectStore(KEYS, { keyPath: "name" }).createIndex("consent", "consent", { unique: true });
    };
    opening.onsuccess = () => resolve(opening.result);
    opening.onerror = () => reject(opening.error);
  });
}

async function done(mode, act) {
  const opened = await database();
  try {
    return await new Promise((resolve, reject) => {
      const transaction = opened.transaction(KEYS, mode, { durability: "strict" });
      const request = act(transaction.objectStore(KEYS));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  } finally {
    opened.close();
  }
}

export const keyNamed = (name) => done("readonly", (store) => store.get(name));
export const keep = (record) => done("readwrite", (store) => store.put(record));

// The key for this consent, made if there is none.
export async function keyFor(consent, logs) {
  const known = await done("readonly", (store) => store.index("consent").get(consent));
  if (known) return known;
  const pair = await newCheckKey();
  const record = { name: await nameOf(pair), consent, pair, logs, before: null };
  await keep(record);
  lasting();
  return record;
}
