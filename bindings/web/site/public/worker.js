// Keeps what the page has loaded, so that it works off line. Files with a hash in their names never change.
const CACHE = "goldcrest-page";

addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method !== "GET" || new URL(request.url).origin !== location.origin) return;
  event.respondWith(
    (async () => {
      const cache = await caches.open(CACHE);
      const kept = await cache.match(request);
      if (kept && /-[\w-]{8}\.\w+$/.test(request.url)) return kept;
      try {
        const response = await fetch(request);
        if (response.ok) await cache.put(request, response.clone());
        return response;
      } catch (e) {
        if (kept) return kept;
        throw e;
      }
    })(),
  );
});
