// A bundle's files: opened once, so that the bytes that are used are the bytes that were hashed.
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

// Reads a regular file of at most `most` bytes; never waits for a pipe. `name` is a relative path, and no part of it
// may be a link. Throws Error(PAHI_BAD_BUNDLE).
std::string read_file(const std::filesystem::path &folder, const std::string &name, std::uintmax_t most);

// Reads such a file that `record` describes.
std::string read_file(const std::filesystem::path &folder, const std::string &name, const Record &record,
                      std::uintmax_t most);

// A file or folder that is watched: does its name still lead to the same one, unchanged? If it was moved away and back,
// its time of change differs; so does a folder's if an entry was made or removed in it.
class WatchedPlace {
 public:
  // Throws Error(PAHI_BAD_BUNDLE) if it does not exist.
  explicit WatchedPlace(const std::filesystem::path &path);

  // Throws Error(PAHI_BAD_BUNDLE) if it changed.
  void confirm() const;

  const std::filesystem::path &path() const { return path_; }
  const struct stat &itself() const { return itself_; }

 private:
  std::filesystem::path path_;
  struct stat itself_, target_;  // `path_`, and where it leads if it is a link
};

// Files that a runtime opens by itself, checked before that, with the bundle's folders that lead to them.
class WatchedFiles {
 public:
  explicit WatchedFiles(const std::filesystem::path &folder) : folder_(folder) {}

  // Throws Error(PAHI_BAD_BUNDLE) unless it is the file that `record` describes.
  void add(const std::string &name, const Record &record);

  // Throws Error(PAHI_BAD_BUNDLE) if one is another file, or was written to, since it was checked.
  void confirm() const;

 private:
  // Watches a place from now on, unless it is watched already.
  const WatchedPlace &watch(const std::filesystem::path &path);

  std::filesystem::path folder_;
  std::vector<WatchedPlace> places_;
};

}  // namespace pahi
