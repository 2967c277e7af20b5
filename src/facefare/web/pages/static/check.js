// "Is anything missing in this list?": the guardians open what they counted, to this browser alone, and it compares.

import { base64 } from "./held/bytes.js";
import { asked as wallet, Refused } from "./held/phone.js";
import { COMPARE_WITHIN, compare, remembered } from "./own/comparison.js";
import { keep, keyNamed } from "./own/keeping.js";
import { Differ, MadeUp, asked, forProgram, read } from "./own/opening.js";
import { parts, say, sentence, step } from "./steps.js";

const { check, counted, since, sinceRow, lost, lostRow, entries, save, often } = parts;
const page = document.getElementById("own-log");
const moment = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
const TRIES = 3;
const KEYLESS = ["no key", "other key"]; // what only a new enrolment changes

function reason(error) {
  if (error instanceof Unable) return error.message;
  if (error instanceof MadeUp) return "made up";
  return error instanceof Differ ? "differ" : "failed";
}

// Why there is nothing to compare, by the name of its sentence.
class Unable extends Error {}

async function compared(face) {
  for (let left = TRIES; left > 0; left--) {
    const shown = await wallet(`access/check/faces/${face}`);
    if (!shown.payer_key) throw new Unable("no key");
    const record = await keyNamed(shown.payer_key).catch(() => null);
    if (!record) throw new Unable("other key");
    if (record.logs.join() !== shown.logs.join()) throw new Unable("other guardians");
    const opening = await asked(shown, record.pair);
    const answers = await wallet("access/check/openings", { request: base64(opening.request) });
    const opened = await read(opening, answers, record.logs);
    if (JSON.stringify(await wallet(`access/check/faces/${face}`)) !== JSON.stringify(shown)) continue;
    const result = compare(opened, shown, record.before);
    if (result.complete) await keep({ ...record, before: remembered(opened, shown, result, record.before) });
    return { shown, opened, result, file: { ...shown, ...(await forProgram(opening, answers)) } };
  }
  throw new Unable("busy");
}

function row(what, when) {
  const item = document.createElement("li");
  item.append(Object.assign(document.createElement("span"), { textContent: what }));
  item.append(Object.assign(document.createElement("time"), { className: "when", textContent: moment.format(when) }));
  return item;
}

function show({ shown, opened, result, file }) {
  counted.textContent = result.compared;
  since.textContent = moment.format(opened.since);
  sinceRow.hidden = opened.since === 0; // from the beginning
  lost.textContent = result.lost.length;
  lostRow.hidden = result.lost.length === 0;
  often.hidden = result.compared <= COMPARE_WITHIN;
  const newest = [...shown.accesses].reverse().map(({ terminal, at }) => row(shown.places[terminal] ?? terminal, at));
  entries.replaceChildren(...newest);
  save.href = URL.createObjectURL(new Blob([JSON.stringify(file, null, 1)], { type: "application/json" }));
  step(result.complete ? "complete" : "incomplete");
  say(result.complete ? "complete" : result.gone ? "gone" : "incomplete");
}

check.addEventListener("click", async () => {
  check.disabled = true;
  step("ready");
  say("checking");
  try {
    show(await compared(page.dataset.face));
  } catch (error) {
    step(KEYLESS.includes(error.message) ? "keyless" : "unable");
    say(null, error instanceof Refused ? error.message : sentence(reason(error)));
  } finally {
    check.disabled = false;
  }
});
check.disabled = false; // from here on somebody listens
