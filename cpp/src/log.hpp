// Messages of the library, for the program's callback and for pahi_last_error.
#pragma once

#include <string>
#include <string_view>

#include "pahi.h"

namespace pahi {

// The text on one line. Characters that control a terminal, which names from a bundle may hold, become escapes (\x1b).
std::string printable(std::string_view text);

// Passes a message to the program's callback, in printable form.
void say(const pahi_options &options, pahi_log_level level, const char *text);

}  // namespace pahi
