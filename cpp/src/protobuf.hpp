// Protobuf's wire format, https://protobuf.dev/programming-guides/encoding: a message is a sequence of numbered fields,
// each a number or a run of bytes.
//
// This reader is stricter than protobuf, so that no other reader can read the same bytes differently. Unknown fields,
// groups, and a second value of a field that takes one are errors. (Protobuf would skip, skip, and merge.)
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace pahi {

// Bytes that are not the message they should be.
struct Malformed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How the value of a field is encoded.
enum Wire : std::uint32_t { kNumber = 0, kEightBytes = 1, kBytes = 2, kFourBytes = 5 };

// The tag of a field: its number and its wire type, as encoded before its value.
constexpr std::uint32_t tag(std::uint32_t field, Wire wire = kBytes) { return field << 3 | wire; }

// The tags that a message may have.
struct Fields {
  std::vector<std::uint32_t> once, repeated;
};

struct Field {
  std::uint32_t tag;
  std::uint64_t number;    // the value of a kNumber
  std::string_view bytes;  // the value of all other types
};

// Reads messages with at most `most` fields in all, which bounds the time that it takes. All methods throw Malformed.
class WireReader {
 public:
  explicit WireReader(std::uint64_t most) : left_(most) {}

  template <typename Use>
  void each(std::string_view message, const Fields &known, const Use &use) {
    std::vector<bool> seen(known.once.size());
    while (!message.empty()) {
      const std::uint64_t found = read_number(message);
      check_known(found, known, seen);
      use(read_value(static_cast<std::uint32_t>(found), message));
    }
  }

  // The numbers of a packed field.
  template <typename Use>
  void each_number(std::string_view packed, const Use &use) {
    while (!packed.empty()) {
      spend();
      use(read_number(packed));
    }
  }

 private:
  void spend();
  static void check_known(std::uint64_t found, const Fields &known, std::vector<bool> &seen);
  // Removes what it reads from the front of `rest`.
  Field read_value(std::uint32_t found, std::string_view &rest);
  static std::uint64_t read_number(std::string_view &rest);

  std::uint64_t left_;
};

}  // namespace pahi
