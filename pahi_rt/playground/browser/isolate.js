// Isolates the page by a service worker, for hosts that cannot send the headers: threads need that.

const KEY = "pahi-isolated";

if (!globalThis.crossOriginIsolated && globalThis.isSecureContext && navigator.serviceWorker && !tried()) {
  await navigator.serviceWorker.register("isolating.js");
  await navigator.serviceWorker.ready;
  location.reload();
  await new Promise(() => {}); // until it is loaded again
}

/** Whether this tab was reloaded for it before: where that did not help, the page goes on with one thread. */
function tried() {
  const before = sessionStorage.getItem(KEY);
  sessionStorage.setItem(KEY, "yes");
  return before !== null;
}
