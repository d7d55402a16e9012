import { answer, input, load } from "./input.mjs";

const { drawNoise, philox4x32, requestSeeds } = await load("browser/noise.js");

const bits = (noise) => Array.from(new Uint32Array(Float32Array.from(noise).buffer));
answer({
  draws: input.draws.map(({ seed, shape }) => bits(drawNoise(BigInt(seed), shape))),
  philox: philox4x32([0, 0, 0, 0], [0, 0]),
  seeds: input.requests.map(({ seed, count }) => {
    try {
      return requestSeeds(BigInt(seed), count);
    } catch (problem) {
      return problem.toJSON();
    }
  }),
});
