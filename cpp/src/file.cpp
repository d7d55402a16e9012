#include "file.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <memory>
#include <thread>
#include <vector>

#include "error.hpp"

namespace pahi {
namespace {

constexpr std::size_t kChunk = 1 << 20;
constexpr double kTick = 0.02;  // seconds; on local disks the timestamps of files are finer

[[noreturn]] void fail(const std::filesystem::path &path, const std::string &why) {
  throw Error(PAHI_BAD_BUNDLE, path.string() + " " + why);
}

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int get() const { return number_; }

 private:
  int number_;
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
  }
  void add(const char *bytes, std::size_t size) { check(EVP_DigestUpdate(context_.get(), bytes, size)); }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int size = 0;
    check(EVP_DigestFinal_ex(context_.get(), digest, &size));
    std::string text;
    for (unsigned int i = 0; i < size; ++i) {
      text += "0123456789abcdef"[digest[i] >> 4];
      text += "0123456789abcdef"[digest[i] & 15];
    }
    return text;
  }

 private:
  static void check(bool worked) {
    if (!worked) throw Error(PAHI_RUNTIME_ERROR, "OpenSSL cannot compute a sha256");
  }
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

// Opens without blocking, even if it is a pipe that nobody writes to.
int open_file(const std::filesystem::path &path, int flags) { return open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags); }

struct stat describe(const Descriptor &file, const std::filesystem::path &path) {
  struct stat found;
  if (file.get() < 0 || fstat(file.get(), &found) != 0) fail(path, std::string("cannot be read: ") + std::strerror(errno));
  if (!S_ISREG(found.st_mode)) fail(path, "cannot be read: it is not a file");
  return found;
}

std::size_t read_some(const Descriptor &file, char *target, std::size_t size, const std::filesystem::path &path) {
  ssize_t count;
  do {
    count = read(file.get(), target, size);
  } while (count < 0 && errno == EINTR);
  if (count < 0) fail(path, std::string("cannot be read: ") + std::strerror(errno));
  return static_cast<std::size_t>(count);
}

std::string read_all(const Descriptor &file, std::size_t size, const std::filesystem::path &path) {
  std::string bytes(size, '\0');
  std::size_t done = 0;
  while (done < size) {
    const std::size_t count = read_some(file, &bytes[done], size - done, path);
    if (count == 0) fail(path, "has been changed while it was read");
    done += count;
  }
  return bytes;
}

// Refuses links: one could lead to a file outside the bundle.
std::filesystem::path find_inside(const std::filesystem::path &folder, const std::string &name) {
  std::filesystem::path path = folder;
  std::error_code error;
  for (const auto &part : std::filesystem::path(name)) {
    path /= part;
    if (std::filesystem::is_symlink(std::filesystem::symlink_status(path, error))) fail(path, "is a link");
  }
  return path;
}

void check_size(const struct stat &found, const Record &record, const std::filesystem::path &path) {
  const auto size = static_cast<std::uintmax_t>(found.st_size);
  if (size != record.size) fail(path, "has " + std::to_string(size) + " bytes instead of " + std::to_string(record.size));
}

void check_hash(const std::string &sha256, const Record &record, const std::filesystem::path &path) {
  if (sha256 != record.sha256) fail(path, "has been changed: its sha256 is not the manifest's");
}

// Reads only the first `size` bytes: a file may grow without end.
std::string hash(const Descriptor &file, std::uintmax_t size, const std::filesystem::path &path) {
  std::vector<char> chunk(kChunk);
  Sha256 digest;
  while (size > 0) {
    const std::size_t count = read_some(file, chunk.data(), std::min<std::uintmax_t>(size, chunk.size()), path);
    if (count == 0) fail(path, "has been changed while it was read");
    digest.add(chunk.data(), count);
    size -= count;
  }
  return digest.hex();
}

bool are_equal(const timespec &one, const timespec &other) {
  return one.tv_sec == other.tv_sec && one.tv_nsec == other.tv_nsec;
}

bool are_equal(const struct stat &one, const struct stat &other) {
  return one.st_dev == other.st_dev && one.st_ino == other.st_ino && one.st_size == other.st_size &&
         are_equal(one.st_mtim, other.st_mtim) && are_equal(one.st_ctim, other.st_ctim);
}

// Waits until a later change would show: two changes within one tick of the system's clock look like one.
void let_the_clock_pass(const timespec &changed) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  const double age = difftime(now.tv_sec, changed.tv_sec) + static_cast<double>(now.tv_nsec - changed.tv_nsec) * 1e-9;
  if (age < kTick) std::this_thread::sleep_for(std::chrono::duration<double>(kTick));
}

}  // namespace

std::string read_file(const std::filesystem::path &folder, const std::string &name, std::uintmax_t most) {
  const auto path = find_inside(folder, name);
  const Descriptor file(open_file(path, O_NOFOLLOW));
  const auto size = static_cast<std::uintmax_t>(describe(file, path).st_size);
  if (size > most) fail(path, "has more than " + std::to_string(most) + " bytes");
  return read_all(file, size, path);
}

std::string read_file(const std::filesystem::path &folder, const std::string &name, const Record &record,
                      std::uintmax_t most) {
  const auto path = find_inside(folder, name);
  if (record.size > most) fail(path, "has more than " + std::to_string(most) + " bytes");
  const Descriptor file(open_file(path, O_NOFOLLOW));
  check_size(describe(file, path), record, path);
  const std::string bytes = read_all(file, record.size, path);
  Sha256 digest;
  digest.add(bytes.data(), bytes.size());
  check_hash(digest.hex(), record, path);
  return bytes;
}

WatchedPlace::WatchedPlace(const std::filesystem::path &path) : path_(path) {
  if (lstat(path_.c_str(), &itself_) != 0 || stat(path_.c_str(), &target_) != 0) {
    fail(path_, std::string("cannot be read: ") + std::strerror(errno));
  }
  let_the_clock_pass(itself_.st_ctim);
  let_the_clock_pass(target_.st_ctim);
}

void WatchedPlace::confirm() const {
  struct stat itself, target;
  if (lstat(path_.c_str(), &itself) != 0 || stat(path_.c_str(), &target) != 0 || !are_equal(itself, itself_) ||
      !are_equal(target, target_)) {
    fail(path_, "has been changed while it was loaded");
  }
}

void WatchedFiles::add(const std::string &name, const Record &record) {
  const auto path = find_inside(folder_, name);
  std::filesystem::path place = folder_;
  for (const auto &part : std::filesystem::path(name)) {
    watch(place);
    place /= part;
  }
  const struct stat itself = watch(path).itself();
  const Descriptor file(open_file(path, O_NOFOLLOW));
  const struct stat found = describe(file, path);
  check_size(found, record, path);
  check_hash(hash(file, record.size, path), record, path);
  // The open file was hashed; by now the path may lead to another file.
  if (!are_equal(found, itself)) fail(path, "has been changed while it was loaded");
}

void WatchedFiles::confirm() const {
  for (const WatchedPlace &place : places_) place.confirm();
}

const WatchedPlace &WatchedFiles::watch(const std::filesystem::path &path) {
  const auto same = [&path](const WatchedPlace &place) { return place.path() == path; };
  const auto watched = std::find_if(places_.begin(), places_.end(), same);
  return watched == places_.end() ? places_.emplace_back(path) : *watched;
}

}  // namespace pahi
