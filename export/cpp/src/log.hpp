// What the library has to say, to the program's callback.
#pragma once

#include "pahi.h"

namespace pahi {

inline void say(const pahi_options &options, pahi_log_level level, const char *text) {
  if (options.log != nullptr) options.log(options.log_user, level, text);
}

}  // namespace pahi
