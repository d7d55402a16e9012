#include <onnxruntime_cxx_api.h>

#include <array>
#include <string>

#include "error.hpp"
#include "log.hpp"
#include "session.hpp"

namespace pahi {
namespace {

constexpr std::uint32_t kMostThreads = 1024;

void ORT_API_CALL tell(void *options, OrtLoggingLevel level, const char *, const char *, const char *,
                       const char *message) {
  say(*static_cast<const pahi_options *>(options), level >= ORT_LOGGING_LEVEL_ERROR ? PAHI_LOG_ERROR : PAHI_LOG_WARNING,
      message);
}

// There is one environment in a process, whose log is that of whoever makes it first: each session has its own instead.
// Of an ONNX Runtime that is older than the headers there is no interface at all.
Ort::Env make_environment() {
  if (OrtGetApiBase()->GetApi(ORT_API_VERSION) == nullptr) {
    throw Error(PAHI_RUNTIME_ERROR, std::string("ONNX Runtime ") + OrtGetApiBase()->GetVersionString() +
                                        " is older than this library was built for");
  }
  return Ort::Env(ORT_LOGGING_LEVEL_FATAL, "pahi");
}

Ort::SessionOptions make_options(const pahi_options &given) {
  if (given.threads > kMostThreads) throw Error(PAHI_BAD_ARGUMENT, "there are too many threads");
  Ort::SessionOptions options;
  if (given.threads > 0) options.SetIntraOpNumThreads(static_cast<int>(given.threads));
  options.SetLogSeverityLevel(ORT_LOGGING_LEVEL_WARNING);
  Ort::ThrowOnError(Ort::GetApi().SetUserLoggingFunction(options, tell, const_cast<pahi_options *>(&given)));
  // Else its threads keep the cores busy after a picture.
  options.AddConfigEntry("session.force_spinning_stop", "1");
  return options;
}

struct Port {
  std::string name;
  ONNXTensorElementDataType type;
  std::vector<std::int64_t> shape;  // without the batch; -1 is not compared
};

void check_port(const Port &port, const std::string &name, const Ort::TypeInfo &info) {
  const auto tensor = info.GetTensorTypeAndShapeInfo();
  auto shape = tensor.GetShape();
  bool fits = port.name == name && tensor.GetElementType() == port.type && shape.size() == port.shape.size() + 1;
  for (std::size_t i = 0; fits && i < port.shape.size(); ++i) fits = port.shape[i] < 0 || shape[i + 1] == port.shape[i];
  if (!fits) throw Error(PAHI_BAD_BUNDLE, "the graph's " + name + " is not what pahi.json says");
}

class OnnxSession : public Session {
 public:
  OnnxSession(const std::filesystem::path &file, const Manifest &manifest, const Graph &graph,
              const pahi_options &options);

  void draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength, std::uint8_t *rgb) const override;

 private:
  const Manifest &manifest_;
  bool takes_strength_;
  Ort::Env env_;
  mutable Ort::Session session_;
};

OnnxSession::OnnxSession(const std::filesystem::path &file, const Manifest &manifest, const Graph &graph,
                         const pahi_options &options)
    : manifest_(manifest),
      takes_strength_(graph.takes_strength),
      env_(make_environment()),
      session_(env_, file.c_str(), make_options(options)) {
  const auto &latent = manifest.latent_shape;
  std::vector<Port> inputs{{"input_ids", ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, {-1}},
                           {"noise", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {latent[0], latent[1], latent[2]}}};
  if (takes_strength_) inputs.push_back({"prior_strength", ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, {}});
  const Port image{"image", ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, {manifest.height, manifest.width, 3}};
  if (session_.GetInputCount() != inputs.size() || session_.GetOutputCount() != 1) {
    throw Error(PAHI_BAD_BUNDLE, "the graph has not the inputs and outputs that pahi.json says");
  }
  Ort::AllocatorWithDefaultOptions allocator;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    check_port(inputs[i], session_.GetInputNameAllocated(i, allocator).get(), session_.GetInputTypeInfo(i));
  }
  check_port(image, session_.GetOutputNameAllocated(0, allocator).get(), session_.GetOutputTypeInfo(0));
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
  for (const std::string &name : graph.weights) find_file(folder, manifest, name);
  return std::make_unique<OnnxSession>(find_file(folder, manifest, graph.file), manifest, graph, options);
}

}  // namespace pahi
