#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "error.hpp"
#include "file.hpp"
#include "graph.hpp"
#include "log.hpp"
#include "session.hpp"

namespace pahi {
namespace {

constexpr std::uint32_t kMostThreads = 1024;
constexpr std::uintmax_t kLargestGraph = std::uintmax_t{1} << 28;  // bytes
constexpr int kOldest[] = {1, 24, 1};  // the first version that opens no file outside a model's folder

void ORT_API_CALL tell(void *options, OrtLoggingLevel level, const char *, const char *, const char *,
                       const char *message) {
  say(*static_cast<const pahi_options *>(options), level >= ORT_LOGGING_LEVEL_ERROR ? PAHI_LOG_ERROR : PAHI_LOG_WARNING,
      message);
}

bool is_older(const std::string &version, const int (&oldest)[3]) {
  int found[3] = {0, 0, 0};
  std::sscanf(version.c_str(), "%d.%d.%d", &found[0], &found[1], &found[2]);
  return std::lexicographical_compare(found, found + 3, oldest, oldest + 3);
}

// A process has one environment, and its log belongs to whoever makes it first, so each session has a log of its own.
Ort::Env make_environment() {
  const std::string version = OrtGetApiBase()->GetVersionString();
  if (is_older(version, kOldest)) {
    throw Error(PAHI_RUNTIME_ERROR, "ONNX Runtime " + version + " is too old: this library needs 1.24.1 or newer");
  }
  if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr) {
    throw Error(PAHI_RUNTIME_ERROR, "ONNX Runtime " + version +
                                        " is older than the headers that libpahi was built with (API " +
                                        std::to_string(ORT_API_VERSION) + "): build libpahi with older headers");
  }
  return Ort::Env(ORT_LOGGING_LEVEL_FATAL, "pahi");
}

Ort::SessionOptions make_options(const std::filesystem::path &folder, const pahi_options &given) {
  if (given.threads > kMostThreads) throw Error(PAHI_BAD_ARGUMENT, "there are too many threads");
  Ort::SessionOptions options;
  if (given.threads > 0) options.SetIntraOpNumThreads(static_cast<int>(given.threads));
  options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_WARNING);
  Ort::ThrowOnError(Ort::GetApi().SetUserLoggingFunction(options, tell, const_cast<pahi_options *>(&given)));
  // The graph is loaded from the memory that was checked. These say where its weights are, and that it is ONNX.
  options.AddConfigEntry("session.model_external_initializers_file_folder_path", folder.c_str());
  options.AddConfigEntry("session.load_model_format", "ONNX");
  // Otherwise its threads keep the cores busy after a picture.
  options.AddConfigEntry("session.force_spinning_stop", "1");
  return options;
}

// Checks what ONNX Runtime found, which may be more than the graph says. Sizes that it does not know fit: it compares
// them when it draws.
void check_port(const std::vector<Port> &ports, const std::string &name, const Ort::TypeInfo &info) {
  const auto port = std::find_if(ports.begin(), ports.end(), [&](const Port &port) { return port.name == name; });
  bool fits = port != ports.end() && info.GetONNXType() == ONNX_TYPE_TENSOR;
  if (fits) {
    const auto tensor = info.GetTensorTypeAndShapeInfo();
    const auto shape = tensor.GetShape();
    fits = tensor.GetElementType() == static_cast<ONNXTensorElementDataType>(port->type) &&
           shape.size() == port->shape.size() + 1;
    for (std::size_t i = 1; fits && i < shape.size(); ++i) fits = shape[i] < 0 || shape[i] == port->shape[i - 1];
  }
  if (!fits) throw Error(PAHI_BAD_BUNDLE, "the graph's " + name + " is not what pahi.json says");
}

class OnnxSession : public Session {
 public:
  // `model` is the content of the graph's file; its weights are in `folder`.
  OnnxSession(const std::string &model, const std::filesystem::path &folder, const Manifest &manifest,
              const Graph &graph, const pahi_options &options);

  void draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength, std::uint8_t *rgb) const override;

 private:
  const Manifest &manifest_;
  bool takes_strength_;
  Ort::Env env_;
  mutable Ort::Session session_;
};

OnnxSession::OnnxSession(const std::string &model, const std::filesystem::path &folder, const Manifest &manifest,
                         const Graph &graph, const pahi_options &options)
    : manifest_(manifest),
      takes_strength_(graph.takes_strength),
      env_(make_environment()),
      session_(env_, model.data(), model.size(), make_options(folder, options)) {
  const auto inputs = manifest.inputs(graph), outputs = manifest.outputs();
  if (session_.GetInputCount() != inputs.size() || session_.GetOutputCount() != outputs.size()) {
    throw Error(PAHI_BAD_BUNDLE, "the graph has not the inputs and outputs that pahi.json says");
  }
  Ort::AllocatorWithDefaultOptions allocator;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check_port(inputs, session_.GetInputNameAllocated(i, allocator).get(), session_.GetInputTypeInfo(i));
  }
  check_port(outputs, session_.GetOutputNameAllocated(0, allocator).get(), session_.GetOutputTypeInfo(0));
}

void OnnxSession::draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength,
                       std::uint8_t *rgb) const {
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const std::array<std::int64_t, 2> ids_shape{1, static_cast<std::int64_t>(ids.size())};
  const auto &latent = manifest_.latent_shape;
  const std::array<std::int64_t, 4> noise_shape{1, latent[0], latent[1], latent[2]};
  const std::array<std::int64_t, 1> strength_shape{1};
  const std::array<std::int64_t, 4> image_shape{1, manifest_.height, manifest_.width, 3};
  std::vector<Ort::Value> inputs;
  inputs.push_back(
      Ort::Value::CreateTensor(memory, ids.data(), ids.size(), ids_shape.data(), ids_shape.size()));
  inputs.push_back(
      Ort::Value::CreateTensor(memory, noise.data(), noise.size(), noise_shape.data(), noise_shape.size()));
  inputs.push_back(Ort::Value::CreateTensor(memory, &strength, 1, strength_shape.data(), strength_shape.size()));
  const std::size_t size = std::size_t{manifest_.height} * manifest_.width * 3;
  auto image = Ort::Value::CreateTensor(memory, rgb, size, image_shape.data(), image_shape.size());
  static constexpr const char *kInputs[] = {"input_ids", "noise", "prior_strength"};
  static constexpr const char *kOutputs[] = {"image"};
  session_.Run(Ort::RunOptions{nullptr}, kInputs, inputs.data(), takes_strength_ ? 3 : 2, kOutputs, &image, 1);
}

}  // namespace

std::unique_ptr<Session> open_onnxruntime(const std::filesystem::path &folder, const Manifest &manifest,
                                          const Graph &graph, const pahi_options &options) {
  const std::string model = read_file(folder, graph.file, manifest.file(graph.file), kLargestGraph);
  check_graph(model, graph, manifest);
  // ONNX Runtime opens these by itself; afterwards they must be unchanged since they were hashed.
  WatchedFiles weights(folder);
  for (const std::string &name : graph.weights) weights.add(name, manifest.file(name));
  const auto place = std::filesystem::absolute(folder / graph.file).parent_path();
  std::unique_ptr<Session> session;
  try {
    session = std::make_unique<OnnxSession>(model, place, manifest, graph, options);
  } catch (...) {
    weights.confirm();  // a file that was replaced may be the reason
    throw;
  }
  weights.confirm();
  return session;
}

}  // namespace pahi
