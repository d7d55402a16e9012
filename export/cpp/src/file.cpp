#include "file.hpp"

#include <fstream>

#include "error.hpp"

namespace pahi {

std::string read_file(const std::filesystem::path &path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);  // of what is no file, an error
  std::ifstream file(path, std::ios::binary);
  std::string bytes(error ? 0 : size, '\0');
  file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (error || !file) throw Error(PAHI_BAD_BUNDLE, path.string() + " cannot be read");
  return bytes;
}

}  // namespace pahi
