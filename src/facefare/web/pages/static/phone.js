// The page of a payer's phones: which of them is this one, and deleting what it keeps.

import { forget, phone } from "./held/keeping.js";

const kept = await phone();
const mine = kept && document.querySelector(`[data-device="${kept.id}"]`);
document.getElementById("this").hidden = Boolean(mine);
if (mine) {
  mine.querySelector(".mine").hidden = false;
  document.getElementById("show").hidden = false;
  // Ended here: what this phone keeps goes as well, first, since that needs no network.
  for (const form of mine.querySelectorAll("form[data-ends]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      forget().finally(() => form.submit());
    });
  }
}
// One that was ended elsewhere, or another payer's, can't pay: nothing of it needs to stay.
if (kept && mine?.dataset.ended) await forget();
