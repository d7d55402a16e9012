#include "log.hpp"

#include <utf8proc.h>

#include <cstdio>

namespace pahi {
namespace {

// Whether a character controls a terminal: C0 and C1, and those that turn the direction of text or end a line.
bool is_unfit(utf8proc_int32_t point) {
  return point < 0x20 || (point >= 0x7F && point <= 0x9F) || point == 0x061C || point == 0x200E || point == 0x200F ||
         (point >= 0x2028 && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
}

std::string escape(utf8proc_int32_t point) {
  if (point == '\n') return "\\n";
  if (point == '\r') return "\\r";
  if (point == '\t') return "\\t";
  char text[8];
  std::snprintf(text, sizeof text, point < 256 ? "\\x%02x" : "\\u%04x", static_cast<unsigned>(point));
  return text;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const auto *bytes = reinterpret_cast<const utf8proc_uint8_t *>(text.data());
    utf8proc_int32_t point;
    const utf8proc_ssize_t size = utf8proc_iterate(bytes, static_cast<utf8proc_ssize_t>(text.size()), &point);
    const bool is_character = size > 0;
    const std::string_view part = text.substr(0, is_character ? static_cast<std::size_t>(size) : 1);
    if (!is_character) {
      result += escape(*bytes);
    } else if (is_unfit(point)) {
      result += escape(point);
    } else {
      result += part;
    }
    text.remove_prefix(part.size());
  }
  return result;
}

void say(const pahi_options &options, pahi_log_level level, const char *text) {
  if (options.log != nullptr) options.log(options.log_user, level, printable(text).c_str());
}

}  // namespace pahi
