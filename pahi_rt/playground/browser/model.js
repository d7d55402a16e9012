// A bundle in JavaScript: prompt -> token ids, seed -> noise, graph -> pictures. Runs in a Worker, and in Node.

import { Problem } from "../problem.js";
import { NOISE_RECIPE, drawNoise, requestSeeds } from "./noise.js";
import { Tokenizer } from "./tokenizer.js";
import { Vocabulary } from "./vocabulary.js";

export const GAUSSIAN = "gaussian";
const MOST_SESSIONS = 2; // each holds a copy of the weights

export class Model {
  /** Read the small files of a bundle: `site` is site.json, `engine` an open engine. Graphs are loaded when needed. */
  static async open(site, files, engine) {
    if (site.noise_recipe !== NOISE_RECIPE) {
      throw new Problem(500, `this page does not know the noise recipe ${site.noise_recipe}`, "build the site with a newer pahi-rt");
    }
    const { file, max_length, pad_id } = site.tokenizer;
    const tokenizer = new Tokenizer(await files.readJson(file), max_length, pad_id);
    const vocabulary = site.vocabulary && new Vocabulary(await files.readJson(site.vocabulary));
    return new Model(site, files, engine, tokenizer, vocabulary);
  }

  constructor(site, files, engine, tokenizer, vocabulary) {
    Object.assign(this, { site, files, engine, tokenizer, vocabulary });
    this.sessions = new Map();
  }

  /** Load the graph for `steps` and `prior`, unless it is loaded; one at a time, as all that draws. Throws a Problem. */
  async session(steps, prior) {
    const graph = this.#graph(steps, prior);
    const loading = this.sessions.get(graph) ?? this.#load(graph);
    this.sessions.delete(graph);
    this.sessions.set(graph, loading); // the last one used is the last in the map
    loading.catch(() => this.sessions.delete(graph));
    if (this.sessions.size > MOST_SESSIONS) await this.#release(this.sessions.keys().next().value);
    return { graph, session: await loading };
  }

  /** Draw one picture: its RGB bytes [H, W, 3]. `ids` come from `tokenizer.encode`, `seed` is a BigInt. */
  async drawOne(ids, seed, { steps, prior, strength }) {
    const { graph, session } = await this.session(steps, prior);
    const { Tensor } = this.engine.ort;
    const shape = this.site.latent_shape;
    const feeds = {
      input_ids: new Tensor("int64", ids, [1, ids.length]),
      noise: new Tensor("float32", drawNoise(seed, shape), [1, ...shape]),
    };
    if (graph.has_strength) feeds.prior_strength = new Tensor("float32", Float32Array.of(strength), [1]);
    const { image } = await session.run(feeds);
    return image.data;
  }

  /** The seeds and strengths of a request's pictures, in order: for each seed every strength. Throws a Problem. */
  plan({ seed, count, prior, prior_strengths: strengths }) {
    for (const strength of strengths) {
      if (!(strength >= 0 && strength <= 1)) throw new Problem(400, `no prior strength: ${strength}`, "use a number from 0 to 1");
      if (prior === GAUSSIAN && strength > 0) throw new Problem(400, "a strength needs a prior", "choose a prior, or strength 0");
    }
    return requestSeeds(seed, count).flatMap((one) => strengths.map((strength) => ({ seed: one, strength })));
  }

  #graph(steps, prior) {
    const kinds = prior === GAUSSIAN ? [GAUSSIAN, ...this.site.model.priors] : [prior];
    const found = kinds.map((kind) => this.site.graphs.find((graph) => graph.steps === steps && graph.prior === kind));
    const graph = found.find(Boolean);
    if (!graph) throw new Problem(400, `there is no graph of ${steps} steps with the prior ${prior}`, "choose others");
    return graph;
  }

  async #load(graph) {
    const [content, ...weights] = await this.files.read([graph.file, ...graph.weights.map(({ file }) => file)]);
    const externalData = graph.weights.map(({ path }, index) => ({ path, data: weights[index] }));
    return this.engine.load(content, externalData);
  }

  #release(graph) {
    const loading = this.sessions.get(graph);
    this.sessions.delete(graph);
    return loading.then((session) => session.release(), () => {});
  }
}
