// Isolates the page by a service worker, for hosts that cannot send the headers: threads need that.

const KEY = "pahi-isolated";

try {
  if (!globalThis.crossOriginIsolated && globalThis.isSecureContext && navigator.serviceWorker && !tried()) {
    await navigator.serviceWorker.register("isolating.js");
    await navigator.serviceWorker.ready;
    location.reload();
    await new Promise(() => {}); // until it is loaded again
  }
} catch (error) {
  console.warn(`the page draws with one thread: ${error.message}`); // no service workers or no storage are allowed
}

/** Whether this tab was reloaded for it before: where that did not help, the page goes on with one thread. */
function tried() {
  const before = sessionStorage.getItem(KEY);
  sessionStorage.setItem(KEY, "yes");
  return before !== null;
}
