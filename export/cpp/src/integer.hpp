// Integers of JSON: no booleans, no fractions, nothing out of range.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "error.hpp"

namespace pahi {

inline std::int64_t read_integer(const nlohmann::json &value, std::int64_t least, std::int64_t most) {
  const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
  const std::int64_t number = fits ? value.get<std::int64_t>() : least - 1;
  if (number < least || number > most) {
    throw Error(PAHI_BAD_BUNDLE, value.dump() + " makes no sense where a number from " + std::to_string(least) + " to " +
                                     std::to_string(most) + " is due");
  }
  return number;
}

}  // namespace pahi
