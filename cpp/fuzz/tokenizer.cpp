// Any bytes as a prompt: ids of the right number, or a pahi::Error. The tokenizer is the file $PAHI_TOKENIZER.
#include "tokenizer.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "error.hpp"

static pahi::Tokenizer load() {
  std::ifstream file(std::getenv("PAHI_TOKENIZER"), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return pahi::Tokenizer(text, 24, 0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  static const pahi::Tokenizer tokenizer = load();
  try {
    if (tokenizer.encode({reinterpret_cast<const char *>(data), size}).size() != 24) std::abort();
  } catch (const pahi::Error &) {
  }
  return 0;
}
