#include "tokenizer.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <queue>

#include "error.hpp"
#include "json.hpp"
#include "unicode.hpp"

namespace pahi {
namespace {

using Json = nlohmann::json;

constexpr const char *kEndOfWord = "</w>";
constexpr std::size_t kLongest = 1'000'000;
constexpr std::int64_t kMostTokens = 1 << 30;

// The settings that a tokenizer must have; the rules below implement them.
constexpr const char *kNormalizer = R"json({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}, {"type": "Lowercase"}]})json";
constexpr const char *kPreTokenizer = R"json({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"}, 
  "behavior": "Removed", "invert": true},
  {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]})json";
constexpr const char *kModel = R"json({"type": "BPE", "dropout": null, "continuing_subword_prefix": "",
  "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false})json";

void check_kind(const Json &file) {
  const Json model = Json::parse(kModel);
  bool is_clip = file.at("normalizer") == Json::parse(kNormalizer) &&
                 file.at("pre_tokenizer") == Json::parse(kPreTokenizer) &&
                 file.at("post_processor").at("type") == "RobertaProcessing";
  for (const auto &[name, value] : model.items()) is_clip = is_clip && file.at("model").at(name) == value;
  if (!is_clip) throw Error(PAHI_BAD_BUNDLE, "the tokenizer is not CLIP's, which is the only one known here");
}

// GPT-2's table: printable bytes stand for themselves, the others for code points from U+0100 on.
std::array<std::string, 256> byte_table() {
  std::array<std::string, 256> table;
  char32_t next = 256;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool is_printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const char32_t point = is_printable ? byte : next++;
    table[byte] = encode_utf8(&point, &point + 1);
  }
  return table;
}

bool starts_with(std::string_view text, std::string_view prefix) { return text.substr(0, prefix.size()) == prefix; }

// The number of code points that the regular expression of CLIP's tokenizer matches at `at`; 0 for a space. It matches
// <|startoftext|> and <|endoftext|> whole, but the byte-level step cuts them into words again.
std::size_t match(const CodePoints &text, std::size_t at) {
  static constexpr std::u32string_view kContractions[] = {U"'s", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"};
  const std::u32string_view rest(text.data() + at, text.size() - at);
  for (const auto contraction : kContractions) {
    if (rest.substr(0, contraction.size()) == contraction) return contraction.size();
  }
  if (is_number(text[at])) return 1;
  const bool is_word = is_letter(text[at]);
  const auto belongs = [is_word](char32_t point) {
    return is_word ? is_letter(point) : !is_letter(point) && !is_number(point) && !is_space(point);
  };
  std::size_t end = at;
  while (end < text.size() && belongs(text[end])) ++end;
  return end - at;
}

// The length of a mark, a name between "<|" and "|>", that begins at `at`; 0 if there is none.
std::size_t match_mark(const CodePoints &text, std::size_t at) {
  const std::u32string_view rest(text.data() + at, text.size() - at);
  for (const std::u32string_view mark : {U"<|startoftext|>", U"<|endoftext|>"}) {
    if (rest.substr(0, mark.size()) == mark) return mark.size();
  }
  return 0;
}

}  // namespace

Tokenizer::Tokenizer(std::string_view json, std::size_t length, std::int64_t pad) : pad_(pad), length_(length) {
  try {
    const Json file = parse_json(json, "the tokenizer");
    check_kind(file);
    const Json &model = file.at("model");
    for (const auto &[word, id] : model.at("vocab").items()) vocabulary_[word] = read_integer(id, 0, kMostTokens);
    std::size_t rank = 0;
    for (const Json &merge : model.at("merges")) {
      const std::string left = merge.at(0), right = merge.at(1);
      merges_[{vocabulary_.at(left), vocabulary_.at(right)}] = Merge{rank++, vocabulary_.at(left + right)};
    }
    for (const Json &token : file.at("added_tokens")) {
      if (token.at("normalized") || token.at("single_word") || token.at("lstrip") || token.at("rstrip")) {
        throw Error(PAHI_BAD_BUNDLE, "the tokenizer has tokens of a kind that is not known here");
      }
      const std::string text = token.at("content");
      if (text.empty()) throw Error(PAHI_BAD_BUNDLE, "the tokenizer has an empty token");
      added_.emplace_back(text, read_integer(token.at("id"), 0, kMostTokens));
    }
    std::stable_sort(added_.begin(), added_.end(),
                     [](const auto &a, const auto &b) { return a.first.size() > b.first.size(); });
    unknown_ = vocabulary_.at(model.at("unk_token").get<std::string>());
    start_ = read_integer(file.at("post_processor").at("cls").at(1), 0, kMostTokens);
    end_ = read_integer(file.at("post_processor").at("sep").at(1), 0, kMostTokens);
  } catch (const Json::exception &error) {
    throw Error(PAHI_BAD_BUNDLE, std::string("the tokenizer cannot be read: ") + error.what());
  } catch (const std::out_of_range &) {
    throw Error(PAHI_BAD_BUNDLE, "the tokenizer merges what its vocabulary lacks");
  }
  if (length_ < 3) throw Error(PAHI_BAD_BUNDLE, "the tokenizer leaves no room for a prompt");
  bytes_ = byte_table();
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view prompt) const {
  if (prompt.size() > 4 * kLongest) throw Error(PAHI_BAD_PROMPT, "the prompt is too long");
  const CodePoints points = decode_utf8(prompt);
  const auto is_blank = [](char32_t point) { return is_space(point) || (point >= 0x1C && point <= 0x1F); };
  if (std::all_of(points.begin(), points.end(), is_blank)) throw Error(PAHI_BAD_PROMPT, "the prompt is empty");
  if (points.size() > kLongest) throw Error(PAHI_BAD_PROMPT, "the prompt is too long");
  if (prompt.find('\0') != std::string_view::npos) throw Error(PAHI_BAD_PROMPT, "the prompt holds a NUL byte");
  std::vector<std::int64_t> ids{start_};
  std::size_t begin = 0;
  for (std::size_t at = 0; at < prompt.size();) {
    const auto *token = find_added(prompt.substr(at));
    if (token == nullptr) {
      ++at;
      continue;
    }
    add_text(prompt.substr(begin, at - begin), ids);
    ids.push_back(token->second);
    begin = at += token->first.size();
  }
  add_text(prompt.substr(begin), ids);
  if (ids.size() == 1) throw Error(PAHI_BAD_PROMPT, "the prompt holds nothing that can be read");
  ids.resize(std::min(ids.size(), length_ - 1));
  ids.push_back(end_);
  ids.resize(length_, pad_);
  return ids;
}

const std::pair<std::string, std::int64_t> *Tokenizer::find_added(std::string_view rest) const {
  for (const auto &token : added_) {
    if (starts_with(rest, token.first)) return &token;
  }
  return nullptr;
}

// Text between added tokens: NFC, lower case, then split into words by CLIP's regular expression.
void Tokenizer::add_text(std::string_view raw, std::vector<std::int64_t> &ids) const {
  CodePoints text;
  for (const char32_t point : compose(raw)) append_lower(point, text);
  for (std::size_t at = 0; at < text.size();) {
    const auto word = [&](std::size_t begin, std::size_t end) {
      add_word(encode_utf8(text.data() + begin, text.data() + end), ids);
    };
    if (const std::size_t mark = match_mark(text, at)) {
      word(at, at + 2);
      word(at + 2, at + mark - 2);
      word(at + mark - 2, at + mark);
      at += mark;
    } else if (const std::size_t count = match(text, at)) {
      word(at, at + count);
      at += count;
    } else {
      ++at;  // a space
    }
  }
}

// Byte-pair encoding: merges the first of the best-ranked pairs until no pair is left.
void Tokenizer::add_word(std::string_view word, std::vector<std::int64_t> &ids) const {
  struct Symbol {
    std::int64_t id;
    std::size_t previous, next;
    bool is_alive;
  };
  constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::vector<Symbol> symbols;
  for (std::size_t i = 0; i < word.size(); ++i) {
    const bool is_last = i + 1 == word.size();
    const std::string text = bytes_[static_cast<unsigned char>(word[i])] + (is_last ? kEndOfWord : "");
    const auto found = vocabulary_.find(text);
    const std::int64_t id = found == vocabulary_.end() ? unknown_ : found->second;
    symbols.push_back({id, i == 0 ? kNone : i - 1, is_last ? kNone : i + 1, true});
  }
  struct Candidate {
    std::size_t rank, at;
    std::int64_t left, right, id;
    bool operator>(const Candidate &other) const { return std::pair(rank, at) > std::pair(other.rank, other.at); }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto consider = [&](std::size_t at) {
    if (at == kNone || symbols[at].next == kNone) return;
    const std::int64_t left = symbols[at].id, right = symbols[symbols[at].next].id;
    const auto merge = merges_.find({left, right});
    if (merge != merges_.end()) queue.push({merge->second.rank, at, left, right, merge->second.id});
  };
  for (std::size_t at = 0; at < symbols.size(); ++at) consider(at);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol &left = symbols[best.at];
    const bool is_current = left.is_alive && left.id == best.left && left.next != kNone &&
                            symbols[left.next].id == best.right;
    if (!is_current) continue;
    Symbol &right = symbols[left.next];
    right.is_alive = false;
    left.id = best.id;
    left.next = right.next;
    if (left.next != kNone) symbols[left.next].previous = best.at;
    consider(left.previous);
    consider(best.at);
  }
  for (const Symbol &symbol : symbols) {
    if (symbol.is_alive) ids.push_back(symbol.id);
  }
}

}  // namespace pahi
