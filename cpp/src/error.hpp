// What goes wrong inside, on its way to a pahi_status.
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
