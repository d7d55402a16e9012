// A bundle's files: opened once, and what was hashed is what is used.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pahi {

struct Record {
  std::uintmax_t size;  // bytes
  std::string sha256;   // lower-case hexadecimal
};

// All bytes of a regular file of at most `most` bytes; never waits for a pipe. Throws Error(PAHI_BAD_BUNDLE).
std::string read_file(const std::filesystem::path &path, std::uintmax_t most);

// The same for one that `record` describes; no part of `name`, a relative path, may be a link.
std::string read_file(const std::filesystem::path &folder, const std::string &name, const Record &record,
                      std::uintmax_t most);

// A file or folder that shows whether its name leads to the same one as before, unchanged. One that was moved away and
// back has another time of change; so has a folder in which an entry was made or removed.
class WatchedPlace {
 public:
  // Throws Error(PAHI_BAD_BUNDLE) unless it is there.
  explicit WatchedPlace(const std::filesystem::path &path);

  // Throws Error(PAHI_BAD_BUNDLE) if it changed.
  void confirm() const;

  const struct stat &itself() const { return itself_; }

 private:
  std::filesystem::path path_;
  struct stat itself_, target_;  // `path_`, and where it leads if it is a link
};

// A file that a runtime opens by itself, checked before that, and the bundle's folders that lead to it.
class WatchedFile {
 public:
  // Throws Error(PAHI_BAD_BUNDLE) unless `record` describes it.
  WatchedFile(const std::filesystem::path &folder, const std::string &name, const Record &record);

  // Throws Error(PAHI_BAD_BUNDLE) if it is another file, or was written to, since it was checked.
  void confirm() const;

 private:
  std::vector<WatchedPlace> places_;
};

}  // namespace pahi
