// Shows this phone's code to a terminal: a new one before the old one runs out, and none once nobody looks at the page.

import { fromBase64 } from "./held/bytes.js";
import { OldTerminalKey, OtherModel, OtherOperator } from "./held/code.js";
import { Locked, opened, phone, recovered } from "./held/keeping.js";
import { asked, nextCode, PassExpired, placeOf, places, Refused, renew } from "./held/phone.js";
import { draw } from "./held/qr.js";
import { parts, say, sentence, step } from "./steps.js";

const { terminal, show, hide, code, left, unlock, recovery, paid } = parts;
const EARLY = 10; // seconds before it runs out that a code is replaced
const SHOWN_FOR = 120; // seconds that codes follow each other without another tap
const CLOCK_OFF = 20; // seconds; terminals allow for half a minute
const PIXELS = 616; // 8 for each of 69 modules and the quiet zone

let here = []; // the terminals to choose from
let showing = null;
let awake = null;

async function begin() {
  const record = await phone();
  if (!record) return step("none");
  step("ready");
  const found = await places();
  here = found.places;
  if (Math.abs(found.clockAhead) > CLOCK_OFF) say("clock is off");
  const shown = await scannedPlace();
  terminal.replaceChildren(...here.map((one) => new Option(one.place, one.terminal)));
  if (shown) terminal.value = shown.terminal;
  if (!here.length) say("no terminals");
  show.disabled = !here.length;
  try {
    if (navigator.onLine && (await pays(record))) await renew(record);
  } catch (error) {
    if (error instanceof Refused) say(null, error.message);
  }
}

// Whether this phone was not stopped, as far as the wallet says so to whom it knows.
async function pays({ id }) {
  const { state } = await asked(`phone/devices/${id}/state`).catch(() => ({ state: "active" }));
  if (state === "active") return true;
  step(["paused", "owing"].includes(state) ? "stopped" : "none");
  say(null, sentence(`phone ${state}`));
  return false;
}

// A terminal's screen shows a link to this page with its announcement; what is after # is sent to no server.
async function scannedPlace() {
  const text = new URLSearchParams(location.hash.slice(1)).get("terminal");
  if (!text) return null;
  history.replaceState(null, "", location.pathname);
  try {
    const one = await placeOf(fromBase64(text.replace(/-/g, "+").replace(/_/g, "/")));
    here = [one, ...here.filter((other) => other.terminal !== one.terminal)];
    return one;
  } catch {
    say("not our terminal");
    return null;
  }
}

function told(error) {
  hideCode();
  if (error instanceof Refused) say(null, error.message);
  else if (error instanceof PassExpired) say("pass expired");
  else if (error instanceof Locked) say(error.message);
  else if (error instanceof OldTerminalKey) say("old terminal");
  else if (error instanceof OtherModel) say("another model");
  else if (error instanceof OtherOperator) say("not our terminal");
  else say("failed");
}

async function showCodes(holding) {
  const place = here.find((one) => one.terminal === terminal.value);
  const mine = (showing = { holding, until: Date.now() + SHOWN_FOR * 1000, since: new Date() });
  step("showing");
  awake = await navigator.wakeLock?.request("screen").catch(() => null);
  watch(mine);
  try {
    while (showing === mine && Date.now() < mine.until) {
      const next = await nextCode(holding, place);
      if (showing !== mine) break;
      code.width = code.height = PIXELS;
      draw(next.code, code);
      code.dataset.drawn = `${Number(code.dataset.drawn ?? 0) + 1}`;
      await counted(next.seconds - EARLY, mine);
    }
    if (showing === mine) {
      hideCode();
      say("time is up");
    }
  } catch (error) {
    told(error);
  } finally {
    holding.reference.fill(0);
  }
}

async function counted(seconds, mine) {
  left.max = seconds;
  for (let rest = seconds; rest > 0 && showing === mine; rest--) {
    left.value = rest;
    await new Promise((wait) => setTimeout(wait, 1000));
  }
}

// Where there is a network: says what was paid, once the terminal has reported it.
async function watch(mine) {
  while (showing === mine) {
    await new Promise((wait) => setTimeout(wait, 1500));
    try {
      const newest = await asked("phone/last");
      if (showing !== mine || !newest.receipt || new Date(newest.at) < mine.since) continue;
      hideCode();
      step("paid");
      say(null, `${sentence("paid")} ${newest.amount}`);
      paid.href = `/app/receipts/${newest.receipt}`;
      paid.focus();
    } catch {
      // no network, or not signed in: the terminal's screen says it
    }
  }
}

function hideCode() {
  showing = null;
  awake?.release();
  awake = null;
  code.getContext("2d").clearRect(0, 0, code.width, code.height);
  if (parts.terminal.isConnected) step("ready");
}

show.addEventListener("click", async () => {
  show.disabled = true;
  say("open it");
  try {
    const holding = await opened(await phone());
    say("hold it");
    showCodes(holding);
  } catch (error) {
    told(error);
  } finally {
    show.disabled = false;
  }
});

unlock.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const { holding, recoveryCode } = await recovered(await phone(), recovery.value);
    recovery.value = "";
    holding.reference.fill(0);
    say(null, `${sentence("unlocked again")} ${recoveryCode ?? ""}`);
  } catch (error) {
    told(error instanceof Locked ? new Locked("wrong recovery code") : error);
  }
});

hide.addEventListener("click", () => {
  hideCode();
  say(null, "");
});
addEventListener("visibilitychange", () => document.hidden && showing && hideCode());
addEventListener("pagehide", () => showing && hideCode());
begin().catch(told);
