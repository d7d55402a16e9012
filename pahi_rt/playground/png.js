// PNG files, written byte by byte: a canvas may alter pixels (some browsers add noise) and drops text chunks.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const HEADER_END = 8 + 25; // signature and IHDR
const SUB = 1; // each byte minus the pixel to its left

/** RGB bytes [height, width, 3] -> the bytes of a PNG. */
export async function encodePng(rgb, width, height) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8); // eight bits, RGB
  const data = await deflate(filtered(rgb, width, height));
  return join([Uint8Array.from(SIGNATURE), chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())]);
}

/** The same PNG with text chunks: `texts` is keyword -> text, as pahi_rt/drawing.py writes them. */
export function withText(png, texts) {
  const chunks = Object.entries(texts).map(([keyword, text]) => textChunk(keyword, text));
  return join([png.subarray(0, HEADER_END), ...chunks, png.subarray(HEADER_END)]);
}

function filtered(rgb, width, height) {
  const stride = 3 * width;
  const rows = new Uint8Array(height * (stride + 1));
  for (let y = 0; y < height; y++) {
    const [from, to] = [y * stride, y * (stride + 1)];
    rows[to] = SUB;
    for (let x = 0; x < stride; x++) rows[to + 1 + x] = rgb[from + x] - (x < 3 ? 0 : rgb[from + x - 3]);
  }
  return rows;
}

async function deflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function textChunk(keyword, text) {
  const bytes = new TextEncoder().encode(text);
  const name = Array.from(keyword, (character) => character.charCodeAt(0));
  const isLatin1 = !/[^\0-\xff]/.test(text);
  if (isLatin1) return chunk("tEXt", Uint8Array.from([...name, 0, ...Array.from(text, (character) => character.charCodeAt(0))]));
  return chunk("iTXt", join([Uint8Array.from([...name, 0, 0, 0, 0, 0]), bytes])); // not compressed, no language
}

function chunk(type, data) {
  const made = new Uint8Array(12 + data.length);
  const view = new DataView(made.buffer);
  view.setUint32(0, data.length);
  made.set(Array.from(type, (character) => character.charCodeAt(0)), 4);
  made.set(data, 8);
  view.setUint32(8 + data.length, crc32(made.subarray(4, 8 + data.length)));
  return made;
}

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return ~crc >>> 0;
}

function join(parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let place = 0;
  for (const part of parts) {
    joined.set(part, place);
    place += part.length;
  }
  return joined;
}
