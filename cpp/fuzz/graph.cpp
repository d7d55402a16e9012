// Any bytes as a graph: a graph that may be loaded, or a pahi::Error.
#include "graph.hpp"

#include "error.hpp"

namespace {

const pahi::Manifest &manifest() {
  static const pahi::Manifest only(R"({"format_version": 3, "noise_recipe": "philox-boxmuller-1",
    "image": {"height": 8, "width": 8, "latent_shape": [4, 1, 1]},
    "tokenizer": {"file": "t", "max_length": 8, "pad_id": 0}, "engines": [],
    "graphs": [{"file": "g.onnx", "steps": 1, "prior": "gaussian", "precision": "fp32", "inputs": [],
                "weights": ["weights.bin"]}],
    "files": {"weights.bin": {"size": 100000000, "sha256": ""}}})");
  return only;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  try {
    pahi::check_graph({reinterpret_cast<const char *>(data), size}, manifest().graphs.front(), manifest());
  } catch (const pahi::Error &) {
  }
  return 0;
}
