// Pages in steps: one step is shown at a time, and one sentence of the page's own says what happens.

const page = document.querySelector("[data-step]");
const told = document.getElementById("told");

// The page's elements by their ids.
export const parts = Object.fromEntries([...page.querySelectorAll("[id]")].map((element) => [element.id, element]));

export const sentence = (name) => document.querySelector(`#sentences [data-say="${name}"]`)?.textContent ?? "";

export function step(name) {
  page.dataset.step = name;
  for (const part of page.querySelectorAll("[data-steps]")) part.hidden = !part.dataset.steps.split(" ").includes(name);
}

// Says a sentence by its name, or `text` as the server wrote it; nothing that it says already.
export function say(name, text = sentence(name)) {
  if (told.textContent !== text) told.textContent = text;
}
