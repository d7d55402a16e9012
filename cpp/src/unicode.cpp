#include "unicode.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <iterator>

#include "error.hpp"

namespace pahi {
namespace {

struct Range {
  char32_t first, last;
};

// `tokenizers` normalises by Unicode 9: marks and compositions of later versions are plain letters there.
constexpr Range kLater[] = {
    {0x7FD, 0x7FD}, {0x898, 0x89F}, {0x8CA, 0x8D3}, {0x9FE, 0x9FE}, {0xC3C, 0xC3C}, {0xD3B, 0xD3C}, {0xEBA, 0xEBA},
    {0x1715, 0x1715}, {0x1ABF, 0x1ACE}, {0x1DF6, 0x1DFA}, {0xA82C, 0xA82C}, {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC},
    {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50}, {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B},
    {0x1145E, 0x1145E}, {0x11839, 0x1183A}, {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E},
    {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99},
    {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1},
    {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

bool stands_apart(char32_t point) {
  // utf8proc before 2.11 deletes this jamo after a syllable, although the two do not compose.
  if (point == 0x11A7) return true;
  const auto *range = std::lower_bound(std::begin(kLater), std::end(kLater), point,
                                       [](const Range &range, char32_t value) { return range.last < value; });
  return range != std::end(kLater) && range->first <= point;
}

int combining_class(utf8proc_int32_t point) { return utf8proc_get_property(point)->combining_class; }

// Composes decomposed text in canonical order. utf8proc's own ordering is quadratic in the number of marks.
void append_composed(std::vector<utf8proc_int32_t> &run, CodePoints &text) {
  const auto is_mark = [](utf8proc_int32_t point) { return combining_class(point) != 0; };
  for (auto at = run.begin(); at != run.end();) {
    const auto first = std::find_if(at, run.end(), is_mark);
    at = std::find_if_not(first, run.end(), is_mark);
    std::stable_sort(first, at, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
  }
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const utf8proc_ssize_t count =
      utf8proc_normalize_utf32(run.data(), static_cast<utf8proc_ssize_t>(run.size()), options);
  text.insert(text.end(), run.begin(), run.begin() + std::max<utf8proc_ssize_t>(count, 0));
  run.clear();
}

}  // namespace

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
  CodePoints composed;
  std::vector<utf8proc_int32_t> run;
  for (const char32_t point : decode_utf8(text)) {
    if (stands_apart(point)) {
      append_composed(run, composed);
      composed.push_back(point);
      continue;
    }
    utf8proc_int32_t parts[32];
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(point), parts, 32,
                                                           UTF8PROC_DECOMPOSE, &boundary);
    run.insert(run.end(), parts, parts + count);
  }
  append_composed(run, composed);
  return composed;
}

void append_lower(char32_t point, CodePoints &text) {
  if (point == 0x130) {  // the only letter whose lower case is two code points
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
