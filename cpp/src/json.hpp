// JSON from strangers, read strictly.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace pahi {

// Parses JSON. Refuses what other readers may read differently, or not at all: duplicate keys and unbounded depth.
// Throws Error(PAHI_BAD_BUNDLE), in which `name` stands for the text, and nlohmann::json::exception.
nlohmann::json parse_json(std::string_view text, const std::string &name);

// Reads an integer; not a boolean, a fraction, or a number out of range. Throws Error(PAHI_BAD_BUNDLE).
std::int64_t read_integer(const nlohmann::json &value, std::int64_t least, std::int64_t most);

}  // namespace pahi
