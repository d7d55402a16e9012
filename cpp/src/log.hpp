// Messages of the library, for the program's callback and for pahi_last_error.
#pragma once

#include <string>
#include <string_view>

#include "pahi.h"

namespace pahi {

// The text on one line, in UTF-8. Characters that control a terminal, and bytes that are not UTF-8, become escapes
// (\x1b): names from a bundle may hold both.
std::string printable(std::string_view text);

// Passes a message to the program's callback, in printable form.
void say(const pahi_options &options, pahi_log_level level, const char *text);

}  // namespace pahi
