#include "unicode.hpp"

#include <utf8proc.h>

#include "error.hpp"

namespace pahi {

CodePoints decode_utf8(std::string_view text) {
  CodePoints points;
  points.reserve(text.size());
  const auto *at = reinterpret_cast<const utf8proc_uint8_t *>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t point;
    const utf8proc_ssize_t used = utf8proc_iterate(at, left, &point);
    if (used <= 0) throw Error(PAHI_BAD_PROMPT, "the prompt is no UTF-8");
    points.push_back(static_cast<char32_t>(point));
    at += used;
    left -= used;
  }
  return points;
}

std::string encode_utf8(const char32_t *begin, const char32_t *end) {
  std::string text;
  for (; begin != end; ++begin) {
    utf8proc_uint8_t bytes[4];
    const utf8proc_ssize_t count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(*begin), bytes);
    text.append(reinterpret_cast<const char *>(bytes), static_cast<std::size_t>(count));
  }
  return text;
}

CodePoints compose(std::string_view text) {
  const auto *bytes = reinterpret_cast<const utf8proc_uint8_t *>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const utf8proc_ssize_t needed = utf8proc_decompose(bytes, size, nullptr, 0, options);
  if (needed < 0) throw Error(PAHI_BAD_PROMPT, "the prompt is no UTF-8");
  std::vector<utf8proc_int32_t> points(static_cast<std::size_t>(needed));
  utf8proc_decompose(bytes, size, points.data(), needed, options);
  const utf8proc_ssize_t count = utf8proc_normalize_utf32(points.data(), needed, options);
  return CodePoints(points.begin(), points.begin() + count);
}

void append_lower(char32_t point, CodePoints &text) {
  if (point == 0x130) {  // the only letter whose small form is two
    text.insert(text.end(), {U'i', char32_t{0x307}});
  } else {
    text.push_back(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(point))));
  }
}

bool is_space(char32_t point) {
  switch (point) {
    case 0x20:
    case 0x85:
    case 0xA0:
    case 0x1680:
    case 0x2028:
    case 0x2029:
    case 0x202F:
    case 0x205F:
    case 0x3000:
      return true;
    default:
      return (point >= 0x09 && point <= 0x0D) || (point >= 0x2000 && point <= 0x200A);
  }
}

bool is_letter(char32_t point) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_number(char32_t point) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

}  // namespace pahi
