// A bundle's files: opened once, and what was hashed is what is used.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace pahi {

struct Record {
  std::uintmax_t size;  // bytes
  std::string sha256;   // lower-case hexadecimal
};

// All bytes of a regular file of at most `most` bytes; never waits for a pipe. Throws Error(PAHI_BAD_BUNDLE).
std::string read_file(const std::filesystem::path &path, std::uintmax_t most);

// The same for one that `record` describes; no part of `name`, a relative path, may be a link.
std::string read_file(const std::filesystem::path &folder, const std::string &name, const Record &record);

// A file that a runtime opens by itself, checked before that.
class WatchedFile {
 public:
  // Throws Error(PAHI_BAD_BUNDLE) unless `record` describes it.
  WatchedFile(const std::filesystem::path &folder, const std::string &name, const Record &record);

  // Throws Error(PAHI_BAD_BUNDLE) if it is another file, or was written to, since it was checked. A file that was moved
  // away and back has another time of change too.
  void confirm() const;

 private:
  std::filesystem::path path_;
  struct stat checked_;
};

}  // namespace pahi
