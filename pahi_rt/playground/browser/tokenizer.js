// Prompts -> token ids, equal to those of pahi_rt/tokenizer.py.

import { Tokenizer as Library } from "../lib/tokenizers.js";
import { Problem } from "../problem.js";

const LONGEST = 1_000_000;
// The library in Rust composes by Unicode 9: marks and compositions of later versions are plain letters there.
const LATER = new RegExp(
  String.raw`([\u{7fd}\u{898}-\u{89f}\u{8ca}-\u{8d3}\u{9fe}\u{c3c}\u{d3b}-\u{d3c}\u{eba}\u{1715}\u{1abf}-\u{1ace}` +
    String.raw`\u{1df6}-\u{1dfa}\u{a82c}\u{10d24}-\u{10d27}\u{10eab}-\u{10eac}\u{10efd}-\u{10eff}` +
    String.raw`\u{10f46}-\u{10f50}\u{10f82}-\u{10f85}\u{11070}\u{1133b}\u{1145e}\u{11839}-\u{1183a}\u{11930}` +
    String.raw`\u{11938}\u{1193d}-\u{1193e}\u{11943}\u{119e0}\u{11a34}\u{11a47}\u{11a99}\u{11d42}` +
    String.raw`\u{11d44}-\u{11d45}\u{11d97}\u{11f41}-\u{11f42}\u{16ff0}-\u{16ff1}\u{1e08f}\u{1e130}-\u{1e136}` +
    String.raw`\u{1e2ae}\u{1e2ec}-\u{1e2ef}\u{1e4ec}-\u{1e4ef}])`,
  "u",
);
const BLANK = /^[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$/u;

const AS_IN_RUST = {
  // Each character by itself: JavaScript would make the sigma at the end of a word another letter.
  Lowercase: (text) => Array.from(text, (character) => character.toLowerCase()).join(""),
  NFC: (text) => text.split(LATER).map((part) => part.normalize("NFC")).join(""),
};

/** @huggingface/tokenizers, with its differences from the library in Rust mended. */
class Encoder extends Library {
  constructor(content) {
    super(content, {});
    const parts = this.normalizer?.normalizers ?? [this.normalizer];
    for (const part of parts.filter(Boolean)) part.normalize = AS_IN_RUST[part.config.type] ?? part.normalize;
    const normalized = this.added_tokens.filter((token) => token.normalized);
    this.normalizedTokens = new Set(normalized.map((token) => this.normalizer?.(token.content) ?? token.content));
    this.verbatimTokens = new Set(this.added_tokens.filter((token) => !token.normalized).map((token) => token.content));
  }

  /** "<|ENDOFTEXT|>" is text, though it becomes the name of a special token when it is normalised. */
  encode_text(text) {
    if (text === null) return null;
    return this.splitter_unnormalized.split(text).flatMap((part) => {
      if (part === "" || this.verbatimTokens.has(part)) return part === "" ? [] : [part];
      const plain = this.normalizer ? this.normalizer(part) : part;
      return this.splitter_normalized.split(plain).flatMap((piece) => this.encode_piece(piece));
    });
  }

  encode_piece(piece) {
    if (piece === "" || this.normalizedTokens.has(piece)) return piece === "" ? [] : [piece];
    return this.model(this.pre_tokenizer ? this.pre_tokenizer(piece, {}) : [piece]);
  }
}

/** A tokenizer.json, with the length and the padding that the model was trained with. */
export class Tokenizer {
  constructor(content, maxLength, padId) {
    this.encoder = new Encoder(content);
    this.special = this.encoder.encode("").ids.length;
    this.maxLength = maxLength;
    this.padId = padId;
  }

  /** Token ids [T] as BigInts. A longer prompt is cut, with the end token last. Throws a Problem. */
  encode(prompt) {
    checkPrompt(prompt);
    const ids = this.encoder.encode(prompt).ids;
    if (ids.length <= this.special) throw new Problem(400, "the prompt holds nothing that can be read", "write some words");
    const kept = ids.length <= this.maxLength ? ids : [...ids.slice(0, this.maxLength - 1), ids.at(-1)];
    const row = new BigInt64Array(this.maxLength).fill(BigInt(this.padId));
    row.set(kept.map(BigInt));
    return row;
  }
}

function checkPrompt(prompt) {
  if (BLANK.test(prompt)) throw new Problem(400, "the prompt is empty", "describe a picture, such as 'a red apple'");
  if (prompt.length > LONGEST && Array.from(prompt).length > LONGEST) {
    throw new Problem(400, `the prompt has more than ${LONGEST} characters`, "shorten it; a few words are enough");
  }
  if (prompt.includes("\0")) throw new Problem(400, "the prompt holds a NUL byte", "remove it");
  if (/\p{Cs}/u.test(prompt)) throw new Problem(400, "the prompt holds half of a character", "type it again");
}
