// Any bytes as tokenizer.json: a tokenizer that reads a prompt, or a pahi::Error.
#include "tokenizer.hpp"

#include "error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  try {
    pahi::Tokenizer({reinterpret_cast<const char *>(data), size}, 24, 0).encode("a grinning cat's 2 eyes!");
  } catch (const pahi::Error &) {
  }
  return 0;
}
