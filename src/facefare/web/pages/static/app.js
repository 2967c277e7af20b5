// Every page: times in the visitor's own zone, and no form sent twice.

const language = document.documentElement.lang;
const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
for (const time of document.querySelectorAll("time[datetime]")) {
  time.textContent = moment.format(new Date(time.dateTime));
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
