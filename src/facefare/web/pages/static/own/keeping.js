// The payer's check keys, in this browser alone: { name (the public half, hex), consent, pair, logs (verifier keys, as
// they were when the key was made), before (the last comparison that came out right) }. A key for each consent, so that
// two enrolments of one payer have nothing in common.

import { database } from "../database.js";
import { lasting } from "../held/keeping.js";
import { nameOf, newCheckKey } from "./opening.js";

const KEYS = "keys";

const done = database("facefare-own-log", 1, (opened) => {
  opened.createObjectStore(KEYS, { keyPath: "name" }).createIndex("consent", "consent", { unique: true });
});

export const keyNamed = (name) => done(KEYS, "readonly", (store) => store.get(name));
export const keep = (record) => done(KEYS, "readwrite", (store) => store.put(record));

// The key for this consent, made if there is none.
export async function keyFor(consent, logs) {
  const known = await done(KEYS, "readonly", (store) => store.index("consent").get(consent));
  if (known) return known;
  const pair = await newCheckKey();
  const record = { name: await nameOf(pair), consent, pair, logs, before: null };
  await keep(record);
  lasting();
  return record;
}
