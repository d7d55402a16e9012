// What the library has to say, to the program's callback and by pahi_last_error.
#pragma once

#include <string>
#include <string_view>

#include "pahi.h"

namespace pahi {

// The text on one line: what a terminal would obey, as names from a bundle may hold it, is shown as an escape (\x1b).
std::string printable(std::string_view text);

// To the program's callback, printable.
void say(const pahi_options &options, pahi_log_level level, const char *text);

}  // namespace pahi
