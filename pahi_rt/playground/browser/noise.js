// Seeded Gaussian noise by the noise recipe philox-boxmuller-1, as pahi_rt/noise.py draws it (docs/noise.md).

import { Problem } from "../problem.js";

export const NOISE_RECIPE = "philox-boxmuller-1";
const LIMIT = 1n << 64n;
const ROUNDS = 10;
const MULTIPLIERS = [0xd2511f53, 0xcd9e8d57];
const WEYL = [0x9e3779b9, 0xbb67ae85];

/** Standard Gaussian noise of one seed (a BigInt): `shape` is [C, h, w], the values are in C order. */
export function drawNoise(seed, shape) {
  const count = shape.reduce((product, size) => product * size, 1);
  const noise = new Float32Array(Math.ceil(count / 4) * 4);
  const key = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  for (let block = 0; 4 * block < count; block++) {
    noise.set(boxMuller(philox4x32([block, 0, 0, 0], key)), 4 * block);
  }
  return noise.subarray(0, count);
}

/** The seeds of `count` pictures of one prompt, as BigInts: seed, seed + 1, ... They never wrap around. */
export function requestSeeds(seed, count) {
  if (seed < 0n || seed + BigInt(count) > LIMIT) {
    throw new Problem(400, `${count} seeds from ${seed} on are not between 0 and 2^64 - 1`, "use a smaller seed, from 0 on");
  }
  return Array.from({ length: count }, (_, index) => seed + BigInt(index));
}

/** Philox4x32 with ten rounds: four words of counter and two of key -> four random words. */
export function philox4x32(counter, key) {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < ROUNDS; round++) {
    const high0 = multiplyHigh(c0, MULTIPLIERS[0]);
    const high1 = multiplyHigh(c2, MULTIPLIERS[1]);
    const low0 = Math.imul(c0, MULTIPLIERS[0]) >>> 0;
    const low1 = Math.imul(c2, MULTIPLIERS[1]) >>> 0;
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + WEYL[0]) >>> 0;
    k1 = (k1 + WEYL[1]) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** The high word of a product of two words. Its parts stay below 2^53, so that doubles hold them exactly. */
function multiplyHigh(a, b) {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const low = a1 * b0 + Math.floor((a0 * b0) / 0x10000);
  const middle = a0 * b1 + (low % 0x10000);
  return a1 * b1 + Math.floor(low / 0x10000) + Math.floor(middle / 0x10000);
}

function boxMuller(words) {
  const [u0, u1, u2, u3] = words.map((word) => (word + 0.5) * 2 ** -32);
  return [...pair(u0, u1), ...pair(u2, u3)];
}

function pair(even, odd) {
  const radius = Math.sqrt(-2 * Math.log(even));
  const angle = 2 * Math.PI * odd;
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}
