// Any bytes as a graph: a graph that may be loaded, with the inputs and the output of its manifest, or a pahi::Error.
// The manifest is the file $PAHI_MANIFEST.
#include "graph.hpp"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "error.hpp"

static pahi::Manifest load() {
  std::ifstream file(std::getenv("PAHI_MANIFEST"), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return pahi::Manifest(text);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  static const pahi::Manifest manifest = load();
  static const pahi::Graph &graph = manifest.choose(1, manifest.best_prior(), manifest.first_precision());
  try {
    pahi::check_graph({reinterpret_cast<const char *>(data), size}, graph, manifest);
  } catch (const pahi::Error &) {
  }
  return 0;
}
