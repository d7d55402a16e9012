// JSON of strangers, read strictly.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace pahi {

// Refuses what other readers would understand otherwise, or not at all: a second value of a key, and depths without end.
// Throws Error(PAHI_BAD_BUNDLE), which calls the text `name`, and nlohmann::json::exception.
nlohmann::json parse_json(std::string_view text, const std::string &name);

// An integer: no boolean, no fraction, nothing out of range. Throws Error(PAHI_BAD_BUNDLE).
std::int64_t read_integer(const nlohmann::json &value, std::int64_t least, std::int64_t most);

}  // namespace pahi
