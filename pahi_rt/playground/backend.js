// Who draws: the server that this page comes from. `pahi-rt embed web` writes a backend.js that draws in the browser.

export { open } from "./server.js";
