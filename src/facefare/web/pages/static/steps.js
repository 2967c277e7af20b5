// Pages in steps: one step is shown at a time, and one sentence of the page's own says what happens.

const page = document.querySelector("[data-step]");
const told = document.getElementById("told");

// The page's elements by their ids.
export const parts = Object.fromEntries([...page.querySelectorAll("[id]")].map((element) => [element.id, element]));

export const sentence = (name) => document.querySelector(`#sentences [data-say="${name}"]`)?.textContent ?? "";

// Whether what had the focus is gone, and nothing has it yet.
let astray = false;

export function step(name) {
  page.dataset.step = name;
  const there = document.activeElement;
  for (const part of page.querySelectorAll("[data-steps]")) part.hidden = !part.dataset.steps.split(" ").includes(name);
  astray ||= Boolean(there.closest("[data-steps]")?.hidden);
  const next = [...page.querySelectorAll("[data-steps] :is(button, a, input, select, textarea):not(:disabled)")].find((one) => one.checkVisibility());
  if (astray && next) {
    next.focus();
    astray = false;
  }
}

// Says a sentence by its name, or `text` as the server wrote it; nothing that it says already.
export function say(name, text = sentence(name)) {
  if (told.textContent !== text) told.textContent = text;
}
