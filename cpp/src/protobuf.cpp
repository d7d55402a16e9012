#include "protobuf.hpp"

#include <algorithm>
#include <string>

namespace pahi {
namespace {

constexpr std::size_t kLongest = 10;  // bytes of an encoded 64-bit number

}  // namespace

void WireReader::spend() {
  if (left_-- == 0) throw Malformed("it has too many fields");
}

void WireReader::check_known(std::uint64_t found, const Fields &known, std::vector<bool> &seen) {
  if (std::find(known.repeated.begin(), known.repeated.end(), found) != known.repeated.end()) return;
  const auto place = std::find(known.once.begin(), known.once.end(), found);
  const auto index = static_cast<std::size_t>(place - known.once.begin());
  if (place == known.once.end() || seen[index]) {
    throw Malformed("it holds the field " + std::to_string(found >> 3) + " where that does not belong");
  }
  seen[index] = true;
}

Field WireReader::read_value(std::uint32_t found, std::string_view &rest) {
  spend();
  const std::uint32_t wire = found & 7;
  if (wire == kNumber) return {found, read_number(rest), {}};
  const std::uint64_t size = wire == kBytes ? read_number(rest) : wire == kEightBytes ? 8 : 4;
  if (size > rest.size()) throw Malformed("a field is cut off");
  const std::string_view bytes = rest.substr(0, size);
  rest.remove_prefix(size);
  return {found, 0, bytes};
}

std::uint64_t WireReader::read_number(std::string_view &rest) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < std::min(kLongest, rest.size()); ++i) {
    const auto byte = static_cast<unsigned char>(rest[i]);
    if (i == kLongest - 1 && byte > 1) throw Malformed("a number has more than 64 bits");
    value |= std::uint64_t{byte & 0x7fu} << 7 * i;
    if (byte < 0x80) {
      rest.remove_prefix(i + 1);
      return value;
    }
  }
  throw Malformed("a number is cut off");
}

}  // namespace pahi
