// A file's bytes, all of them.
#pragma once

#include <filesystem>
#include <string>

namespace pahi {

// Throws Error(PAHI_BAD_BUNDLE).
std::string read_file(const std::filesystem::path &path);

}  // namespace pahi
