// CLIP's byte-pair encoding, read from a tokenizer.json of Hugging Face tokenizers as pahi-rt's exports write it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace pahi {

class Tokenizer {
 public:
  // `json` is the file's text; `length` counts the start and the end token. Throws Error(PAHI_BAD_BUNDLE).
  Tokenizer(std::string_view json, std::size_t length, std::int64_t pad);

  // Returns `length` ids: start, the prompt, end, padding. A longer prompt is cut, with the end token last.
  // Throws Error(PAHI_BAD_PROMPT) for a prompt that is blank, not UTF-8, or without anything that can be read.
  std::vector<std::int64_t> encode(std::string_view prompt) const;

 private:
  struct PairHash {
    std::size_t operator()(const std::pair<std::int64_t, std::int64_t> &pair) const {
      return std::hash<std::uint64_t>{}(static_cast<std::uint64_t>(pair.first) * 0x9E3779B97F4A7C15u ^
                                        static_cast<std::uint64_t>(pair.second));
    }
  };
  struct Merge {
    std::size_t rank;
    std::int64_t id;
  };

  void add_text(std::string_view raw, std::vector<std::int64_t> &ids) const;
  void add_word(std::string_view word, std::vector<std::int64_t> &ids) const;
  const std::pair<std::string, std::int64_t> *find_added(std::string_view rest) const;

  std::unordered_map<std::string, std::int64_t> vocabulary_;
  std::unordered_map<std::pair<std::int64_t, std::int64_t>, Merge, PairHash> merges_;
  std::vector<std::pair<std::string, std::int64_t>> added_;  // the longest first
  std::array<std::string, 256> bytes_;                       // a byte as the vocabulary writes it
  std::int64_t unknown_, start_, end_, pad_;
  std::size_t length_;
};

}  // namespace pahi
