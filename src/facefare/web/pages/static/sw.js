// Makes the app installable and keeps what is not personal: style, scripts, pictures and the networks. Pages are
// always asked for anew, for they show money; without a network there is one page that says so, and the one that
// shows a phone's code, which has nothing personal in it.

const NAME = "facefare-3";
const OFFLINE = "/app/offline";
const CODE = "/app/phone/pay";
const KEPT = /^\/app\/(static|assets)\//;
const MODULES = ["steps", "held/bytes", "held/code", "held/keeping", "held/phone", "held/qr"]; // that the page imports

self.addEventListener("install", (event) => {
  event.waitUntil(precached().then(() => self.skipWaiting()));
});

async function precached() {
  const cache = await caches.open(NAME);
  const files = new Set(MODULES.map((name) => `/app/static/${name}.js`));
  for (const page of [OFFLINE, CODE]) {
    const response = await fetch(page);
    if (!response.ok) throw new Error(page);
    await cache.put(page, response.clone());
    for (const [file] of (await response.text()).matchAll(/\/app\/static\/[^"#]+/g)) files.add(file);
  }
  await cache.addAll([...files]);
}

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => names.filter((name) => name !== NAME));
  event.waitUntil(
    Promise.all([
      old.then((names) => Promise.all(names.map((name) => caches.delete(name)))),
      self.registration.navigationPreload?.enable(), // a page is asked for while this worker starts
    ]).then(() => self.clients.claim()),
  );
});

async function kept(request) {
  const cache = await caches.open(NAME);
  const found = await cache.match(request);
  if (found && new URL(request.url).search.startsWith("?v=")) return found; // named by its content
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    if (found) return found;
    throw error;
  }
}

async function page({ request, preloadResponse }) {
  const isCode = new URL(request.url).pathname === CODE;
  try {
    const response = (await preloadResponse) ?? (await fetch(request));
    if (isCode && response.ok) await (await caches.open(NAME)).put(CODE, response.clone());
    return response;
  } catch {
    return caches.match(isCode ? CODE : OFFLINE);
  }
}

// What was paid, as the wallet wrote and encrypted it; a tap opens the receipts.
self.addEventListener("push", (event) => {
  const { title, body } = event.data.json();
  event.waitUntil(self.registration.showNotification(title, { body, icon: "/app/static/icon-192.png", tag: body }));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(self.clients.openWindow("/app/receipts"));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET") return;
  if (KEPT.test(new URL(request.url).pathname)) event.respondWith(kept(request));
  else if (request.mode === "navigate") event.respondWith(page(event));
});
