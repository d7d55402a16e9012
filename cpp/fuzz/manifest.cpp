// Any bytes as pahi.json: a manifest whose graph can be chosen, or a pahi::Error.
#include "manifest.hpp"

#include "error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  try {
    const pahi::Manifest manifest({reinterpret_cast<const char *>(data), size});
    const auto &graph = manifest.choose(1, manifest.best_prior(), manifest.first_precision());
    manifest.file(graph.file);
  } catch (const pahi::Error &) {
  }
  return 0;
}
