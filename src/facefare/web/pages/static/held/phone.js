// A payer's phone at the wallet: registering it, renewing its pass, the terminals there are, the code to show.

import { base64, fromBase64 } from "./bytes.js";
import { LIFETIME, makeCode, operatorId, registration, terminalOf } from "./code.js";
import { change, keep, keepTerminal, keepTerminals, nextCounter, phone, terminals } from "./keeping.js";

const DAY = 86_400;
const RENEW_BELOW = 25; // days that a pass is good for
const MOST_TERMINALS = 2000;

// What the wallet said no to; its message is a sentence for the person.
export class Refused extends Error {}

export async function asked(path, body) {
  const headers = { Accept: "application/json", "Content-Type": "application/json" };
  const sent = body === undefined ? { headers } : { headers, method: "POST", body: JSON.stringify(body) };
  const response = await fetch(`/app/${path}`, sent);
  const answer = await response.json();
  if (!response.ok) throw new Refused(answer.problem);
  return answer;
}

// Registers the device with the reference that it holds, and keeps both.
export async function setUp({ device, holding, attestation = null, setting, copies }) {
  const operatorKey = fromBase64(setting.operator_key);
  const operator = await operatorId(operatorKey);
  const consentSha256 = fromBase64(setting.consent_sha256);
  const brought = await registration(device, holding, { operator, consentSha256, attestation });
  const registered = await asked("phone/devices", {
    public_key: base64(brought.publicKey),
    commitment: base64(brought.commitment),
    consent_sha256: Array.from(consentSha256, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    proof: base64(brought.proof),
    attestation: attestation && base64(attestation),
  });
  await keep({
    owner: setting.payer,
    device,
    id: registered.device.id,
    operatorKey,
    copies,
    model: holding.model,
    selfMade: registered.device.self_made,
    pass: passOf(registered.device_pass),
    counter: 0,
    made: new Date(),
  });
}

// A pass for the next 30 days, where the old one has run for a while.
export async function renew(record) {
  const days = record.pass.throughDay - Math.floor(Date.now() / 1000 / DAY);
  if (days < RENEW_BELOW) await change({ pass: passOf(await asked(`phone/devices/${record.id}/pass`, {})) });
}

// Every terminal's place and key, last used first, from the disk where there is no network; and by how many seconds
// this phone's clock is ahead of the wallet's.
export async function places() {
  let clockAhead = 0;
  try {
    const found = [];
    for (let more = true, after = ""; more && found.length < MOST_TERMINALS; ) {
      const response = await fetch(`/v1/terminal_keys${after && `?starting_after=${after}`}`);
      clockAhead = (Date.now() - Date.parse(response.headers.get("Date"))) / 1000 || 0;
      const page = await response.json();
      for (const { announcement, ...one } of page.data) found.push({ ...one, announcement: fromBase64(announcement) });
      [more, after] = [page.has_more, page.data.at(-1)?.terminal];
    }
    await keepTerminals(found);
  } catch {
    // without a network: those that are known
  }
  const known = await terminals();
  const sorted = known.sort((one, other) => other.usedAt - one.usedAt || one.place.localeCompare(other.place));
  return { places: sorted, clockAhead };
}

// A terminal that showed its own announcement, by its name where that is known.
export async function placeOf(announcement) {
  const { operatorKey } = await phone();
  const { terminal } = await terminalOf(announcement, operatorKey);
  const known = (await terminals()).find((one) => one.terminal === terminal);
  const one = { terminal, place: known?.place ?? terminal, announcement, usedAt: known?.usedAt ?? 0 };
  await keepTerminal(one);
  return one;
}

// The next code for this terminal, and the seconds that it is good for.
export async function nextCode(holding, place) {
  const record = await phone();
  const terminal = await terminalOf(place.announcement, record.operatorKey);
  const today = Math.floor(Date.now() / 1000 / DAY);
  if (record.pass.throughDay < today) throw new PassExpired("pass expired");
  const counter = await nextCounter();
  const code = await makeCode({ device: record.device, holding, pass: record.pass, terminal, counter });
  await keepTerminal({ ...place, usedAt: Date.now() });
  return { code, seconds: LIFETIME };
}

export class PassExpired extends Error {}

function passOf(given) {
  return {
    operator: fromBase64(given.operator),
    selfMade: given.self_made,
    throughDay: given.through_day,
    signature: fromBase64(given.signature),
  };
}
