// Asks for the part of the console that changes, every two seconds while somebody can see it.

const live = document.getElementById("live");
const moment = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" });

async function renew() {
  if (document.visibilityState !== "visible") return;
  const response = await fetch(`/app/console/live?span=${live.dataset.span}`);
  if (response.redirected) return location.reload(); // the session has ended
  if (!response.ok) return;
  live.innerHTML = await response.text();
  for (const time of live.querySelectorAll("time[datetime]")) time.textContent = moment.format(new Date(time.dateTime));
}

setInterval(() => renew().catch(() => {}), 2000);
