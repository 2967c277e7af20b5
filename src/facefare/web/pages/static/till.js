// A till's buttons and keys: each press goes to the terminal, and only what the terminal says is shown.

import { play } from "./sounds.js";

const body = document.body;
const amountShown = document.getElementById("amount");
const pin = document.getElementById("pin");
const digits = Number(body.dataset.digits);
let typed = "";
let price = 0;
let choices = [];

async function press(button, sent) {
  const response = await fetch(`/till/${button}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: sent && JSON.stringify(sent),
  });
  if (!response.ok) click(220); // what is shown stays, and a low tone says that nothing happened
  return response.ok;
}

// --- sounds: every key has the same one ---

const click = (frequency = 1200) => play([frequency], { volume: 0.1, seconds: 0.06 });

// --- the amount: digits move in from the right, as at every till ---

function showTyped() {
  const units = typed.padStart(digits + 1, "0");
  const [zero, point] = body.dataset.zero.match(/^\d+(\D\d+)?/); // "0.00", as the language writes it
  const number = digits ? `${units.slice(0, -digits)}${point[0]}${units.slice(-digits)}` : units;
  amountShown.textContent = body.dataset.zero.replace(zero, number);
}

function amountKey(key) {
  if (key === "enter") {
    if (typed) press("amount", { amount: Number(typed) });
  } else if (key === "delete") typed = typed.slice(0, -1);
  else if (typed.length < 8) typed = String(Number(typed + key) || "");
  showTyped();
  click();
}

document.getElementById("amount-pad").addEventListener("click", (event) => {
  const key = event.target.closest("button");
  if (key) amountKey(key.dataset.digit ?? key.dataset.key);
});

// --- the yes ---

function offer(shown) {
  price = shown.price;
  choices = shown.choices;
  document.getElementById("tips").hidden = choices.length === 0;
  document.querySelector("#tips .choices").replaceChildren(
    ...choices.map((choice, position) => {
      const [label, radio] = [document.createElement("label"), document.createElement("input")];
      Object.assign(radio, { type: "radio", name: "tip", value: choice.tip, checked: position === 0 });
      label.append(radio, choice.name);
      return label;
    }),
  );
}

document.getElementById("tips").addEventListener("change", (event) => {
  amountShown.textContent = choices.find((choice) => String(choice.tip) === event.target.value).total;
  click();
});

document.getElementById("approve").addEventListener("submit", (event) => {
  event.preventDefault();
  press("yes", { price, tip: Number(new FormData(event.target).get("tip")) });
});

// --- the PIN: digits lie elsewhere each time, no key looks pressed, and nothing is shown but how many there are ---

const padKeys = [...document.querySelectorAll("#pin-pad button:not([data-key])")];
let underKeys = [];

function shuffled() {
  const left = [..."0123456789"];
  return padKeys.map(() => {
    const limit = 256 - (256 % left.length); // every digit equally likely
    let random;
    do [random] = crypto.getRandomValues(new Uint8Array(1));
    while (random >= limit);
    return left.splice(random % left.length, 1)[0];
  });
}

function layOut() {
  underKeys = shuffled();
  padKeys.forEach((key, position) => (key.textContent = underKeys[position]));
  pin.value = "";
}

function clear() {
  padKeys.forEach((key) => (key.textContent = ""));
  pin.value = "";
}

async function sendPin() {
  const value = pin.value;
  if (value.length < 4) return;
  clear();
  const taken = await press("pin", { pin: value });
  if (!taken && body.dataset.state === "pin") layOut();
}

const pad = document.getElementById("pin-pad");
pad.addEventListener("pointerdown", (event) => {
  event.preventDefault(); // the focus stays in the field, so no key has it
  const key = event.target.closest("button");
  if (!key) return;
  if (key.dataset.key === "enter") sendPin();
  else if (key.dataset.key === "delete") pin.value = pin.value.slice(0, -1);
  else if (pin.value.length < pin.maxLength) pin.value += underKeys[padKeys.indexOf(key)];
  click();
});
pin.addEventListener("input", () => (pin.value = pin.value.replace(/\D/g, "")));
document.getElementById("pin-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sendPin();
});

// --- what the terminal says, and keys ---

const FIRST = { approve: "#approve .go", phone: ".panel-phone button", pin: "#pin" };
for (const end of ["accepted", "already_paid", "use_card", "several", "refused"]) FIRST[end] = ".panel-done button";
let before = "";

document.addEventListener("shown", ({ detail: shown }) => {
  if (shown.state === "amount") {
    typed = before === "amount" ? typed : "";
    showTyped();
  }
  if (shown.state === "approve") offer(shown);
  if (shown.state === "pin") layOut();
  else clear();
  if (shown.state !== before) document.querySelector(FIRST[shown.state] ?? "body")?.focus();
  before = shown.state;
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-do]");
  if (button) press(button.dataset.do);
});

document.addEventListener("keydown", (event) => {
  const state = body.dataset.state;
  if (event.key === "Escape" && state !== "wait") press("cancel");
  if (state === "amount") {
    if (/^\d$/.test(event.key)) amountKey(event.key);
    else if (event.key === "Backspace") amountKey("delete");
    else if (event.key === "Enter" && event.target === body) amountKey("enter");
  }
});
