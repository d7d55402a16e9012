// Words that a small model does not know, and the nearest that it knows, as pahi_rt/vocabulary.py finds them.

// What Python calls a word, a sign and a space.
const WORD_OR_SIGNS =
  /[\p{L}\p{N}]+(?:['’][\p{L}\p{N}]+)*|[^\p{L}\p{N}_\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/gu;
const STARTS_A_WORD = /^[\p{L}\p{N}]/u;
const PICTURE = /\p{So}/u;
const MOST = 10;
const NEAREST = 3;
const CUTOFF = 0.6;

export class Vocabulary {
  /** `data` is the content of a bundle's vocabulary.json. */
  constructor(data) {
    this.words = new Set(data.words.map((word) => word.toLowerCase()));
    this.concepts = data.concepts;
    // Nearest in meaning; bundles before 0.2 have no such table.
    this.related = new Map(Object.entries(data.related ?? {}).map(([word, near]) => [word.toLowerCase(), near]));
  }

  /** The prompt's unknown words in order, at most ten: [{word, nearest: up to three}]. */
  unknown(prompt) {
    const found = new Map();
    for (const [word] of prompt.toLowerCase().matchAll(WORD_OR_SIGNS)) {
      const isKnown = this.words.has(word) || !(STARTS_A_WORD.test(word) || PICTURE.test(word));
      if (!isKnown && !found.has(word) && found.size < MOST) found.set(word, this.#nearest(word));
    }
    return Array.from(found, ([word, nearest]) => ({ word, nearest }));
  }

  #nearest(word) {
    if (this.related.has(word)) return this.related.get(word);
    if (!PICTURE.test(word)) return closeMatches(word, this.words);
    const inside = this.concepts
      .map(({ emoji, label }) => ({ label, bare: bare(emoji) }))
      .filter(({ bare: emoji }) => emoji && bare(word).includes(emoji));
    const longestFirst = inside.sort((a, b) => length(b.bare) - length(a.bare));
    return longestFirst.slice(0, NEAREST).map(({ label }) => label);
  }
}

const bare = (emoji) => emoji.replaceAll("\ufe0f", "");
const length = (text) => Array.from(text).length;

/** difflib.get_close_matches: the most similar first, and of equally similar ones the last in the alphabet. */
export function closeMatches(word, choices) {
  const letters = Array.from(word);
  const places = index(letters);
  const scored = [];
  for (const choice of choices) {
    const other = Array.from(choice);
    const total = letters.length + other.length;
    if ((2 * Math.min(letters.length, other.length)) / total < CUTOFF) continue;
    const score = (2 * matching(other, 0, other.length, letters, 0, letters.length, places)) / total;
    if (score >= CUTOFF) scored.push({ choice, score });
  }
  scored.sort((a, b) => b.score - a.score || (a.choice < b.choice ? 1 : -1));
  return scored.slice(0, NEAREST).map(({ choice }) => choice);
}

/** Letter -> its places. As in difflib, letters that make up more than 1 % of a word of 200 and more are left out. */
function index(letters) {
  const places = new Map();
  letters.forEach((letter, place) => places.set(letter, [...(places.get(letter) ?? []), place]));
  if (letters.length < 200) return places;
  const most = Math.floor(letters.length / 100) + 1;
  return new Map([...places].filter(([, found]) => found.length <= most));
}

/** Letters in matching blocks of a[aLow:aHigh] and b[bLow:bHigh]: the longest one, then those on either side of it. */
function matching(a, aLow, aHigh, b, bLow, bHigh, places) {
  const { start, other, size } = longestMatch(a, aLow, aHigh, b, bLow, bHigh, places);
  if (size === 0) return 0;
  const before = matching(a, aLow, start, b, bLow, other, places);
  return before + size + matching(a, start + size, aHigh, b, other + size, bHigh, places);
}

function longestMatch(a, aLow, aHigh, b, bLow, bHigh, places) {
  let best = { start: aLow, other: bLow, size: 0 };
  let lengths = new Map();
  for (let i = aLow; i < aHigh; i++) {
    const next = new Map();
    for (const j of places.get(a[i]) ?? []) {
      if (j < bLow || j >= bHigh) continue;
      const size = (lengths.get(j - 1) ?? 0) + 1;
      next.set(j, size);
      if (size > best.size) best = { start: i - size + 1, other: j - size + 1, size };
    }
    lengths = next;
  }
  return extend(best, a, aLow, aHigh, b, bLow, bHigh);
}

/** Take in the letters on either side that `index` left out. */
function extend({ start, other, size }, a, aLow, aHigh, b, bLow, bHigh) {
  while (start > aLow && other > bLow && a[start - 1] === b[other - 1]) [start, other, size] = [start - 1, other - 1, size + 1];
  while (start + size < aHigh && other + size < bHigh && a[start + size] === b[other + size]) size++;
  return { start, other, size };
}
