// pahi.json, the manifest of a bundle. Only what is needed to draw is read.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "file.hpp"

namespace pahi {

// Types of values, by their numbers in ONNX, which are ONNX Runtime's too.
enum ElementType : std::uint32_t { kFloat32 = 1, kUint8 = 2, kInt64 = 7 };

// An input or output of a graph.
struct Port {
  std::string name;
  ElementType type;
  std::vector<std::int64_t> shape;  // without the batch
};

struct Graph {
  std::string file;
  std::uint32_t steps;
  std::string prior, precision;
  bool takes_strength;
  std::vector<std::string> weights;  // in the folder of `file`, or in one inside it
};

// A plan of TensorRT.
struct Plan {
  std::string file, graph, graph_sha256, runtime, version;
  std::vector<std::string> capabilities;  // of GPUs, without the dot: "86"
  std::uint32_t least;                    // pictures at once
};

class Manifest {
 public:
  // `json` is the file's text. Throws Error(PAHI_BAD_BUNDLE) if it is not a bundle of a known version.
  explicit Manifest(std::string_view json);

  // For "gaussian", where there is no graph without a prior, a prior's graph stands in: it must be run at strength 0.
  const Graph &choose(std::uint32_t steps, const std::string &prior, const std::string &precision) const;
  std::string best_prior() const;
  // The plan of `graph` that a runtime of that version can run on that GPU. Throws Error(PAHI_BAD_BUNDLE) with the
  // reason if there is none.
  const Plan &choose_plan(const Graph &graph, const std::string &runtime, const std::string &version,
                          const std::string &capability) const;
  // The record of a listed file. Throws Error(PAHI_BAD_BUNDLE) if it is not listed.
  const Record &file(const std::string &name) const;
  const std::string &first_precision() const { return graphs.front().precision; }
  // The inputs and the output of a graph, in the sizes of this manifest.
  std::vector<Port> inputs(const Graph &graph) const;
  std::vector<Port> outputs() const;

  std::uint32_t height, width;                 // pixels
  std::array<std::uint32_t, 3> latent_shape;   // channels, height, width
  std::string tokenizer;                       // a file
  std::size_t max_length;                      // tokens
  std::int64_t pad;
  std::vector<Graph> graphs;
  std::vector<Plan> plans;
  std::map<std::string, Record> files;  // by their path inside the bundle
};

}  // namespace pahi
