#include "manifest.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "error.hpp"
#include "json.hpp"
#include "noise.hpp"

namespace pahi {
namespace {

using Json = nlohmann::json;
using namespace std::string_literals;

// 4 may have scorers, which this library does not use.
constexpr int kOldestFormat = 3, kFormat = 4;
// The limits of docs/bundle.md.
constexpr std::size_t kMostFiles = 1000, kMostGraphs = 100;
constexpr std::int64_t kMostPixels = 8192;              // of a side
constexpr std::uint64_t kMostPicture = 1 << 26;         // pixels
constexpr std::uint64_t kMostLatents = 1 << 24;         // values of a picture's noise
constexpr std::int64_t kMostTokens = 1024, kMostSteps = 4, kMostBatch = 256;
constexpr std::int64_t kLargestFile = std::int64_t{1} << 40;
const std::vector<std::string> kPriors{"pahi", "hi"};  // the best first
constexpr const char *kGaussian = "gaussian";
constexpr const char *kStrength = "prior_strength";

[[noreturn]] void fail(const std::string &what) { throw Error(PAHI_BAD_BUNDLE, what); }

// A relative path with "/" that cannot leave its folder on any system.
bool is_safe(const std::string &name) {
  if (name.empty() || name.find_first_of("\\:\0"s) != std::string::npos) return false;
  const std::filesystem::path path(name);
  const auto leaves = [](const auto &part) { return part.empty() || part == "." || part == ".." || part == "/"; };
  return path.is_relative() && std::none_of(path.begin(), path.end(), leaves);
}

std::uint32_t read_size(const Json &value, std::int64_t most = kMostPixels) {
  return static_cast<std::uint32_t>(read_integer(value, 1, most));
}

bool ends(const std::string &text, const std::string &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

Graph read_graph(const Json &graph) {
  const std::uint32_t steps = read_size(graph.at("steps"), kMostSteps);
  Graph read{graph.at("file"), steps, graph.at("prior"), graph.at("precision"), false, {}};
  // With another ending, ONNX Runtime might read it as a format of its own.
  if (!ends(read.file, ".onnx")) fail("pahi.json: the graph " + read.file + " has another ending than .onnx");
  for (const Json &name : graph.at("weights")) read.weights.push_back(name);
  // A file is hashed once for each time that it is named.
  const std::set<std::string> once(read.weights.begin(), read.weights.end());
  if (once.size() < read.weights.size()) fail("pahi.json: " + read.file + " names its weights twice");
  for (const Json &input : graph.at("inputs")) read.takes_strength |= input.at("name") == kStrength;
  const bool is_known = read.prior == kGaussian || std::count(kPriors.begin(), kPriors.end(), read.prior) > 0;
  if (!is_known || (read.prior != kGaussian && !read.takes_strength)) fail("pahi.json: " + read.file + " makes no sense");
  return read;
}

Plan read_plan(const Json &plan) {
  return {plan.at("file"),    plan.at("graph"),           plan.at("graph_sha256"),
          plan.at("runtime"), plan.at("runtime_version"), plan.at("compute_capabilities"),
          read_size(plan.at("batch").at(0), kMostBatch)};
}

bool begins(const std::string &text, const std::string &start) { return text.compare(0, start.size(), start) == 0; }

// A Python package's version may be shorter or longer than the library's: 10.14.1 or 10.14.1.48.post1 for 10.14.1.48.
bool is_version(const std::string &written, const std::string &version) {
  const bool is_short = std::count(written.begin(), written.end(), '.') >= 2 && begins(version, written + ".");
  return written == version || is_short || begins(written, version + ".");
}

// The reason why a plan of the right graph cannot be used; empty if it can.
std::string object(const Plan &plan, const std::string &sha256, const std::string &version,
                   const std::string &capability) {
  const auto &known = plan.capabilities;
  if (!is_version(plan.version, version)) {
    return plan.file + " is of version " + plan.version + ", and " + version + " is installed";
  }
  if (std::find(known.begin(), known.end(), capability) == known.end()) {
    return plan.file + " is not for this GPU's compute capability, " + capability;
  }
  return plan.graph_sha256 == sha256 ? "" : plan.graph + " was exported again since " + plan.file + " was built";
}

}  // namespace

Manifest::Manifest(std::string_view json) {
  try {
    const Json data = parse_json(json, "pahi.json");
    if (const auto version = read_integer(data.at("format_version"), 1, INT32_MAX); version < kOldestFormat || version > kFormat) {
      fail("the bundle is of format " + std::to_string(version) + "; this version reads " +
           std::to_string(kOldestFormat) + " to " + std::to_string(kFormat));
    }
    if (const std::string recipe = data.at("noise_recipe"); recipe != kNoiseRecipe) {
      fail("the bundle needs the noise recipe " + recipe + "; this version has " + kNoiseRecipe);
    }
    const Json &image = data.at("image"), &reader = data.at("tokenizer");
    height = read_size(image.at("height"));
    width = read_size(image.at("width"));
    if (image.at("latent_shape").size() != 3) fail("pahi.json: latent_shape has not three sizes");
    for (std::size_t i = 0; i < 3; ++i) latent_shape[i] = read_size(image.at("latent_shape").at(i));
    tokenizer = reader.at("file");
    max_length = read_size(reader.at("max_length"), kMostTokens);
    pad = read_integer(reader.at("pad_id"), 0, INT32_MAX);
    for (const Json &graph : data.at("graphs")) graphs.push_back(read_graph(graph));
    for (const Json &plan : data.at("engines")) plans.push_back(read_plan(plan));
    for (const auto &[name, record] : data.at("files").items()) {
      if (!is_safe(name)) fail("pahi.json: '" + name + "' is not a path inside the bundle");
      files[name] = {static_cast<std::uintmax_t>(read_integer(record.at("size"), 0, kLargestFile)), record.at("sha256")};
    }
  } catch (const Json::exception &error) {
    fail(std::string("pahi.json cannot be read: ") + error.what());
  }
  if (graphs.empty()) fail("pahi.json: there are no graphs");
  if (graphs.size() > kMostGraphs || files.size() > kMostFiles) fail("pahi.json: there are too many graphs or files");
  const auto values = std::uint64_t{latent_shape[0]} * latent_shape[1] * latent_shape[2];
  if (values > kMostLatents || std::uint64_t{height} * width > kMostPicture) fail("pahi.json: a picture makes no sense");
}

std::string Manifest::best_prior() const {
  for (const std::string &kind : kPriors) {
    if (std::any_of(graphs.begin(), graphs.end(), [&](const Graph &graph) { return graph.prior == kind; })) return kind;
  }
  return kGaussian;
}

const Graph &Manifest::choose(std::uint32_t steps, const std::string &prior, const std::string &precision) const {
  std::vector<std::string> order{prior};
  if (prior == kGaussian) order.insert(order.end(), kPriors.begin(), kPriors.end());
  for (const std::string &kind : order) {
    for (const Graph &graph : graphs) {
      if (graph.steps == steps && graph.prior == kind && graph.precision == precision) return graph;
    }
  }
  fail("the bundle has no graph of " + std::to_string(steps) + " steps with the prior " + prior + " in " + precision);
}

const Plan &Manifest::choose_plan(const Graph &graph, const std::string &runtime, const std::string &version,
                                  const std::string &capability) const {
  const auto exported = files.find(graph.file);
  const std::string sha256 = exported == files.end() ? "" : exported->second.sha256;
  std::string reason;
  for (const Plan &plan : plans) {
    if (plan.runtime != runtime || plan.graph != graph.file) continue;
    const std::string objection = object(plan, sha256, version, capability);
    if (objection.empty()) return plan;
    if (reason.empty()) reason = objection;
  }
  fail("no " + runtime + " plan of " + graph.file + " fits: " + (reason.empty() ? "none was built" : reason) +
       "; pahi-rt build makes one");
}

const Record &Manifest::file(const std::string &name) const {
  const auto listed = files.find(name);
  if (listed == files.end()) fail("pahi.json uses " + name + ", and does not list it");
  return listed->second;
}

}  // namespace pahi
