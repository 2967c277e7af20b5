// The code for the station gets the payer's own check key, made here; without one the code works all the same.

import { keyFor } from "./own/keeping.js";

const code = document.getElementById("code");
const { consent, logs } = code.dataset;

keyFor(consent, logs.split("\n"))
  .then(({ name }) => {
    code.src += `?key=${name}`;
    document.getElementById("with-key").hidden = false;
  })
  .catch(() => {
    document.getElementById("without-key").hidden = false;
  });
