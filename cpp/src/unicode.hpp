// The part of Unicode that the tokenizer needs, with utf8proc's tables.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pahi {

using CodePoints = std::vector<char32_t>;

// Throws Error(PAHI_BAD_PROMPT) for text that is not UTF-8.
CodePoints decode_utf8(std::string_view text);
std::string encode_utf8(const char32_t *begin, const char32_t *end);

CodePoints compose(std::string_view text);  // NFC; throws as decode_utf8
void append_lower(char32_t point, CodePoints &text);
bool is_space(char32_t point);  // White_Space
bool is_letter(char32_t point);
bool is_number(char32_t point);

}  // namespace pahi
