// Exceptions inside the library, which become a pahi_status at its border.
#pragma once

#include <stdexcept>
#include <string>

#include "pahi.h"

namespace pahi {

class Error : public std::runtime_error {
 public:
  Error(pahi_status status, const std::string &what) : std::runtime_error(what), status(status) {}

  pahi_status status;
};

}  // namespace pahi
