#include "log.hpp"

#include <cstdio>

namespace pahi {
namespace {

// The code point of two or three bytes that controls a terminal: C1, and characters that turn the direction or end a
// line. 0 for all others.
unsigned find_unfit(std::string_view text) {
  const auto byte = [&](std::size_t i) -> unsigned { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0; };
  if (byte(0) == 0xC2 && byte(1) >= 0x80 && byte(1) <= 0x9F) return byte(1);
  if (byte(0) == 0xD8 && byte(1) == 0x9C) return 0x061C;
  const unsigned point = byte(0) == 0xE2 ? 0x2000 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F) : 0;
  const bool is_unfit = point == 0x200E || point == 0x200F || (point >= 0x2028 && point <= 0x202E) ||
                        (point >= 0x2066 && point <= 0x2069);
  return is_unfit ? point : 0;
}

std::string escape(unsigned point) {
  if (point == '\n') return "\\n";
  if (point == '\r') return "\\r";
  if (point == '\t') return "\\t";
  char text[8];
  std::snprintf(text, sizeof text, point < 256 ? "\\x%02x" : "\\u%04x", point);
  return text;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == 0x7F) {
      result += escape(byte);
      ++i;
    } else if (const unsigned point = find_unfit(text.substr(i)); point != 0) {
      result += escape(point);
      i += point < 0x800 ? 2 : 3;
    } else {
      result += text[i++];
    }
  }
  return result;
}

void say(const pahi_options &options, pahi_log_level level, const char *text) {
  if (options.log != nullptr) options.log(options.log_user, level, printable(text).c_str());
}

}  // namespace pahi
