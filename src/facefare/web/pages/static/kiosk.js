// Shows what the terminal says, as it says it. Without a terminal it says "out of service".

import { play } from "./sounds.js";

const main = { title: document.getElementById("title"), amount: document.getElementById("amount"), detail: document.getElementById("detail") };
const lost = { state: "out_of_service", title: document.body.dataset.lost, amount: "", detail: "" };

function draw(figure, code) {
  if (!figure) return;
  figure.hidden = !code;
  if (!code) return;
  figure.querySelector("svg").setAttribute("viewBox", `0 0 ${code.size} ${code.size}`);
  figure.querySelector("path").setAttribute("d", code.path);
}

function show(shown) {
  document.body.dataset.state = shown.state;
  for (const part of ["title", "amount", "detail"]) main[part].textContent = shown[part];
  draw(document.getElementById("code"), shown.code);
  document.getElementById("number").textContent = shown.code?.number ?? "";
  draw(document.getElementById("receipt"), shown.receipt);
  document.dispatchEvent(new CustomEvent("shown", { detail: shown }));
}

// Two rising tones for "go", one low tone for "something else is needed", two equal ones for "you are asked
// something": heard without looking.
const TONES = {
  accepted: [660, 990], already_paid: [660, 990],
  use_card: [330], several: [330], refused: [330], no_network: [330],
  pin: [550, 550], phone: [550, 550],
};
let before = "";

const events = new EventSource("/events");
events.onmessage = (event) => {
  const shown = JSON.parse(event.data);
  show(shown);
  if (shown.state !== before) play(TONES[shown.state] ?? []);
  before = shown.state;
};
events.onerror = () => show(lost);
