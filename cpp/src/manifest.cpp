#include "manifest.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>

#include "error.hpp"
#include "json.hpp"
#include "noise.hpp"
#include "unicode.hpp"

namespace pahi {
namespace {

using Json = nlohmann::json;

// 4 may have scorers, which this library does not use.
constexpr int kOldestFormat = 3, kFormat = 4;
// The limits of docs/bundle.md.
constexpr std::size_t kMostFiles = 1000, kMostGraphs = 100;
constexpr std::int64_t kMostPixels = 8192;              // of a side
constexpr std::uint64_t kMostPicture = 1 << 26;         // pixels
constexpr std::uint64_t kMostLatents = 1 << 24;         // values of a picture's noise
constexpr std::int64_t kLeastTokens = 2, kMostTokens = 1024, kMostSteps = 4, kMostBatch = 256;
constexpr std::int64_t kLargestFile = (std::int64_t{1} << 40) - 1;
const std::vector<std::string> kPriors{"pahi", "hi"};  // the best first
const std::vector<std::string> kPrecisions{"fp32", "w16", "w8", "int8", "fp16"};
constexpr std::u32string_view kPickles[] = {U".ckpt", U".joblib", U".pickle", U".pkl", U".pt", U".pth"};
constexpr const char *kGaussian = "gaussian";
constexpr const char *kStrength = "prior_strength";

[[noreturn]] void fail(const std::string &what) { throw Error(PAHI_BAD_BUNDLE, what); }

bool contains(const std::vector<std::string> &all, const std::string &one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

template <typename Text, typename End>
bool ends(const Text &text, const End &end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

bool begins(const std::string &text, const std::string &start) { return text.compare(0, start.size(), start) == 0; }

// A relative path with "/" that cannot leave its folder on any system: names of letters, digits and _.+@ and spaces.
bool is_safe(const CodePoints &name) {
  constexpr std::u32string_view kOthers = U"_.+@ -";
  for (auto begin = name.begin();;) {
    const auto end = std::find(begin, name.end(), U'/');
    const std::u32string part(begin, end);
    const bool is_fit = std::all_of(begin, end, [&](char32_t point) {
      return is_letter(point) || is_number(point) || kOthers.find(point) != kOthers.npos;
    });
    if (!is_fit || part.empty() || part == U"." || part == U"..") return false;
    if (end == name.end()) return true;
    begin = end + 1;
  }
}

bool is_pickle(const CodePoints &name) {
  CodePoints lower;
  for (const char32_t point : name) append_lower(point, lower);
  const std::u32string text(lower.begin(), lower.end());
  return std::any_of(std::begin(kPickles), std::end(kPickles), [&](auto ending) { return ends(text, ending); });
}

bool is_sha256(const std::string &text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == text.npos;
}

std::uint32_t read_size(const Json &value, std::int64_t most = kMostPixels) {
  return static_cast<std::uint32_t>(read_integer(value, 1, most));
}

const Json &read_list(const Json &value) {
  if (!value.is_array()) fail("pahi.json: " + value.dump().substr(0, 40) + " stands where a list is due");
  return value;
}

Record read_record(const std::string &name, const Json &record) {
  const CodePoints points = decode_utf8(name);
  if (!is_safe(points) || name == "pahi.json") fail("pahi.json: '" + name + "' is not a path inside the bundle");
  if (is_pickle(points)) fail("pahi.json: " + name + " is a pickle; a bundle must hold none");
  const auto size = static_cast<std::uintmax_t>(read_integer(record.at("size"), 0, kLargestFile));
  const std::string sha256 = record.at("sha256");
  if (!is_sha256(sha256)) fail("pahi.json: " + name + " has no usable sha256");
  return {size, sha256};
}

// `priors` are those that pahi.json describes.
Graph read_graph(const Json &graph, const Json &priors) {
  const std::uint32_t steps = read_size(graph.at("steps"), kMostSteps);
  Graph read{graph.at("file"), steps, graph.at("prior"), graph.at("precision"), false, {}};
  // With another ending, ONNX Runtime might read it as a format of its own.
  if (!ends(read.file, std::string(".onnx"))) fail("pahi.json: " + read.file + " has another ending than .onnx");
  const std::string folder = read.file.substr(0, read.file.rfind('/') + 1);
  for (const std::string name : read_list(graph.at("weights"))) {
    if (!begins(name, folder)) fail("pahi.json: the weights of " + read.file + " lie in another folder");
    read.weights.push_back(name);
  }
  // A file is hashed once for each time that it is named.
  const std::set<std::string> once(read.weights.begin(), read.weights.end());
  if (once.size() < read.weights.size()) fail("pahi.json: " + read.file + " names its weights twice");
  for (const Json &input : read_list(graph.at("inputs"))) read.takes_strength |= input.at("name") == kStrength;
  const bool has_prior = contains(kPriors, read.prior) && priors.contains(read.prior) && read.takes_strength;
  if (!contains(kPrecisions, read.precision) || (read.prior != kGaussian && !has_prior)) {
    fail("pahi.json: " + read.file + " makes no sense");
  }
  return read;
}

// Checks what pahi.json says of a graph's inputs or outputs, in any order.
void check_ports(const Json &listed, const std::vector<Port> &due, const std::string &file) {
  static const std::map<ElementType, std::string> kNames{{kFloat32, "float32"}, {kUint8, "uint8"}, {kInt64, "int64"}};
  Json found = Json::object(), expected = Json::object();
  for (const Json &port : read_list(listed)) found[port.at("name").get<std::string>()] = port;
  for (const Port &port : due) {
    Json shape = port.shape;
    shape.insert(shape.begin(), "batch");
    expected[port.name] = {{"name", port.name}, {"dtype", kNames.at(port.type)}, {"shape", shape}};
  }
  if (listed.size() != due.size() || found != expected) {
    fail("pahi.json: " + file + " has other inputs or outputs than its image and tokenizer make");
  }
}

Plan read_plan(const Json &plan) {
  const Json &batch = read_list(plan.at("batch"));
  if (batch.size() != 3) fail("pahi.json: a plan's batch has not three numbers");
  const std::uint32_t least = read_size(batch.at(0), kMostBatch);
  read_integer(batch.at(2), read_integer(batch.at(1), least, kMostBatch), kMostBatch);
  return {plan.at("file"),    plan.at("graph"),           plan.at("graph_sha256"),
          plan.at("runtime"), plan.at("runtime_version"), plan.at("compute_capabilities"),
          least};
}

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
    const Json &latent = read_list(image.at("latent_shape"));
    if (latent.size() != 3) fail("pahi.json: latent_shape has not three sizes");
    for (std::size_t i = 0; i < 3; ++i) latent_shape[i] = read_size(latent.at(i));
    tokenizer = reader.at("file");
    max_length = static_cast<std::size_t>(read_integer(reader.at("max_length"), kLeastTokens, kMostTokens));
    pad = read_integer(reader.at("pad_id"), 0, INT32_MAX);
    for (const Json &graph : read_list(data.at("graphs"))) {
      graphs.push_back(read_graph(graph, data.at("priors")));
      check_ports(graph.at("inputs"), inputs(graphs.back()), graphs.back().file);
      check_ports(graph.at("outputs"), outputs(), graphs.back().file);
    }
    for (const Json &plan : read_list(data.at("engines"))) plans.push_back(read_plan(plan));
    for (const auto &[name, record] : data.at("files").items()) files[name] = read_record(name, record);
  } catch (const Json::exception &error) {
    fail(std::string("pahi.json cannot be read: ") + error.what());
  }
  if (graphs.empty()) fail("pahi.json: there are no graphs");
  std::set<std::tuple<std::uint32_t, std::string, std::string>> roles;
  for (const Graph &graph : graphs) {
    const bool is_new = roles.emplace(graph.steps, graph.prior, graph.precision).second;
    if (!is_new) fail("pahi.json: " + graph.file + " is a second graph of its steps, prior and precision");
  }
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

std::vector<Port> Manifest::inputs(const Graph &graph) const {
  std::vector<Port> ports{{"input_ids", kInt64, {static_cast<std::int64_t>(max_length)}},
                          {"noise", kFloat32, {latent_shape[0], latent_shape[1], latent_shape[2]}}};
  if (graph.takes_strength) ports.push_back({kStrength, kFloat32, {}});
  return ports;
}

std::vector<Port> Manifest::outputs() const { return {{"image", kUint8, {height, width, 3}}}; }

const Record &Manifest::file(const std::string &name) const {
  const auto listed = files.find(name);
  if (listed == files.end()) fail("pahi.json uses " + name + ", and does not list it");
  return listed->second;
}

}  // namespace pahi
