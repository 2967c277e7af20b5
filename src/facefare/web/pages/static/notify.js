// Asks the browser for a push subscription and hands it to the wallet; only after a tap.

const button = document.getElementById("subscribe");
const problem = document.getElementById("problem");

const bytes = (text) =>
  Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));

button.addEventListener("click", async () => {
  button.disabled = true;
  problem.hidden = true;
  try {
    const worker = await navigator.serviceWorker.ready;
    const made = await worker.pushManager.subscribe({
      userVisibleOnly: true,
      applicationServerKey: bytes(button.dataset.key),
    });
    const { endpoint, keys } = made.toJSON();
    const response = await fetch("/app/notifications/push", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ endpoint, keys }),
    });
    if (!response.ok) throw new Error((await response.json()).problem);
    location.reload();
  } catch {
    problem.textContent = button.dataset.failed;
    problem.hidden = false;
  } finally {
    button.disabled = false;
  }
});
