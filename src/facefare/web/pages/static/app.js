// Every page: times in the visitor's own zone, what came of a form, and no form sent twice.

const language = document.documentElement.lang;
const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
for (const time of document.querySelectorAll("time[datetime]")) {
  time.textContent = moment.format(new Date(time.dateTime));
}

// Where the parts of the console lie side by side, the one that is shown is among those that are seen.
document.querySelector(".sections [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });

// What came of a form is read out, and the keyboard goes on from there.
const outcome = document.querySelector("main :is(.done[role=status], .problem[role=alert]):not([hidden])");
if (outcome && !document.querySelector("[autofocus]")) {
  outcome.tabIndex = -1;
  outcome.focus();
}

document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) event.preventDefault();
  event.target.dataset.sent = "yes";
});
// A page that comes back from the browser's cache may be sent again.
addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent;
});

// Offline page and installing, once this page is there; a failure here changes nothing for it.
const install = () => navigator.serviceWorker?.register("/app/sw.js").catch(() => {});
if (document.readyState === "complete") install();
else addEventListener("load", install);
