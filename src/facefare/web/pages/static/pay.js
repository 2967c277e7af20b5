// Reads the code of a gate or till: a link to its payment's page here, or the payment's number alone.

import { canScan, Scan } from "./scan.js";

const [read, scanner, problem] = ["read", "scanner", "problem"].map((id) => document.getElementById(id));

function opened(text) {
  const [id] = text.match(/pi_[0-9a-z]{26}/) ?? [];
  if (id) location.assign(`/app/pay/${id}`);
  return Boolean(id);
}

if (canScan) {
  read.hidden = false;
  const scan = new Scan(scanner);
  read.addEventListener("click", () => {
    problem.hidden = true;
    scan.run(async (text) => opened(text)).catch(() => {
      scan.end();
      problem.hidden = false;
    });
  });
  addEventListener("pagehide", () => scan.end());
}
