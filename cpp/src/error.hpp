// Exceptions inside the library, which become a pahi_status at its border.
#pragma once

#include <stdexcept>
#include <string>

#include "log.hpp"
#include "pahi.h"

namespace pahi {

class Error : public std::runtime_error {
 public:
  // In printable form, because what() would end at a NUL byte, which names from a bundle may hold.
  Error(pahi_status status, const std::string &what) : std::runtime_error(printable(what)), status(status) {}

  pahi_status status;
};

}  // namespace pahi
