// The page: opens the backend, and ties its parts to the state.

import { Artist } from "./artist.js";
import { open } from "./backend.js";
import { wireControls } from "./controls.js";
import { element, find } from "./dom.js";
import { download, wireElsewhere } from "./elsewhere.js";
import { wireGallery } from "./gallery.js";
import { History } from "./history.js";
import { askKey } from "./key.js";
import { showUnknown, wirePrompt } from "./prompt.js";
import { Stage } from "./stage.js";
import { State } from "./state.js";
import { wireTheme } from "./theme.js";

const NARROW = "(max-width: 719px)";
const SPOKEN = 800; // milliseconds after which a drawing is told to screen readers
const ENGINES = { webgpu: "WebGPU, in this browser", wasm: "WebAssembly, in this browser", server: "pahi-rt serve" };

wireTheme();
start().catch((error) => {
  if (!error.fix) throw error;
  complain(error);
});

async function start() {
  let artist = null;
  const backend = await open((news) => {
    if (news.ready) artist?.restart();
    showBackend(news);
  });
  const state = new State(backend.models, location.hash.slice(1), matchMedia(NARROW).matches);
  const history = new History(state);
  const stage = new Stage(state, (seed) => state.set({ seed, count: 1 }));
  let last = null;
  artist = new Artist(backend, state, stage, (drawn) => {
    last = drawn;
    const unknown = drawn.reply.unknown_words ?? [];
    showUnknown(state, unknown);
    noteUnknown(unknown.length > 0);
    showTime(drawn);
    history.add(drawn);
  });
  wirePrompt(state, history);
  wireControls(state);
  wireModels(state);
  const noteUnknown = wireElsewhere(state, backend);
  wireAddress(state);
  find("#download").addEventListener("click", () => last && download(last, modelOf(last, state), backend.version));
  if (!backend.needsServer) find("#where").textContent = "the model, which runs in this page";
  artist.now();
  await wireGallery(state, backend);
}

const modelOf = ({ request }, { models }) => models.find(({ name }) => name === request.model);

function wireModels(state) {
  const field = find("#model");
  field.replaceChildren(...state.models.map(({ name }) => element("option", { value: name }, name)));
  find("#models").hidden = state.models.length < 2;
  field.addEventListener("change", () => {
    const model = state.models.find(({ name }) => name === field.value);
    state.set({ model, prior: model.default_prior });
  });
  const show = () => (field.value = state.model.name);
  state.addEventListener("change", show);
  show();
}

/** Keep the address up to date, so that a reload, a bookmark and a link bring the same pictures, and follow a new one. */
function wireAddress(state) {
  let timer = null;
  state.addEventListener("change", () => {
    clearTimeout(timer);
    timer = setTimeout(() => history.replaceState(null, "", `#${state.toAddress()}`), 300);
  });
  addEventListener("hashchange", () => state.read(location.hash.slice(1)));
}

function showTime({ request, pictures, milliseconds }) {
  const time = milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
  find("#time").textContent = time;
  clearTimeout(showTime.timer);
  showTime.timer = setTimeout(() => {
    const what = pictures.length === 1 ? "a picture" : `${pictures.length} pictures`;
    find("#spoken").textContent = `Drew ${what} of ${request.prompt}, seed ${request.seed}`;
  }, SPOKEN);
}

function showBackend({ progress, ready, lost, locked, failed }) {
  const place = find("#engine");
  const bar = find("#progress");
  if (progress) {
    const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
    find("#loading").hidden = false;
    bar.max = progress.total;
    bar.value = progress.loaded;
    const isAllThere = progress.loaded >= progress.total;
    find("#loading-text").textContent = isAllThere
      ? "Preparing the model"
      : `Loading the model, ${megabytes(progress.loaded)} of ${megabytes(progress.total)} MB`;
  }
  if (ready) {
    const threads = ready.threads > 1 ? `, ${ready.threads} threads` : "";
    place.textContent = ENGINES[ready.engine] + threads;
    place.dataset.state = "ready";
    find("#loading").hidden = true;
  }
  if (lost) {
    place.textContent = "Connecting again";
    place.dataset.state = "lost";
  }
  if (locked) askKey(locked);
  if (failed) complain(failed);
}

function complain(problem) {
  find("#loading").hidden = true;
  find("#message").replaceChildren(element("strong", {}, problem.message), element("span", {}, problem.fix));
  find("#message").className = "problem";
  find("#message").hidden = false;
}
