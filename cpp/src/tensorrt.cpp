#include <NvInferRuntime.h>

#include <algorithm>
#include <initializer_list>
#include <mutex>
#include <string>

#include "cuda.hpp"
#include "error.hpp"
#include "file.hpp"
#include "log.hpp"
#include "session.hpp"

namespace pahi {
namespace {

constexpr std::uintmax_t kLargestPlan = std::uintmax_t{1} << 36;  // bytes

using nvinfer1::DataType;

thread_local const pahi_options *listener = nullptr;

// While a pipeline calls TensorRT in this thread, TensorRT's messages go to the callback of its program.
class Listening {
 public:
  explicit Listening(const pahi_options &options) { listener = &options; }
  Listening(const Listening &) = delete;
  Listening &operator=(const Listening &) = delete;
  ~Listening() { listener = nullptr; }
};

class Logger : public nvinfer1::ILogger {
 public:
  void log(Severity severity, const char *text) noexcept override {
    if (listener == nullptr || severity > Severity::kWARNING) return;
    say(*listener, severity == Severity::kWARNING ? PAHI_LOG_WARNING : PAHI_LOG_ERROR, text);
  }
};

// TensorRT keeps the first logger of a process, and warns about any other, so this one is never destroyed.
Logger &logger() {
  static Logger *const only = new Logger;
  return *only;
}

template <typename Made>
std::unique_ptr<Made> require(Made *made, const std::string &what) {
  if (made == nullptr) throw Error(PAHI_RUNTIME_ERROR, "TensorRT cannot " + what);
  return std::unique_ptr<Made>(made);
}

int current_device() {
  int device = 0;
  check_cuda(cudaGetDevice(&device));
  return device;
}

// The compute capability of a GPU, such as "86".
std::string compute_capability(int device) {
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return std::to_string(major) + std::to_string(minor);
}

std::string library_version() {
  std::string version = std::to_string(getInferLibMajorVersion());
  for (const auto number : {getInferLibMinorVersion(), getInferLibPatchVersion(), getInferLibBuildVersion()}) {
    version += "." + std::to_string(number);
  }
  return version;
}

nvinfer1::Dims make_dims(std::initializer_list<std::size_t> sizes) {
  nvinfer1::Dims dims{};
  for (const std::size_t size : sizes) dims.d[dims.nbDims++] = static_cast<std::int64_t>(size);
  return dims;
}

bool are_equal(const nvinfer1::Dims &one, const nvinfer1::Dims &other) {
  return one.nbDims == other.nbDims && std::equal(one.d, one.d + one.nbDims, other.d);
}

// Draws in the smallest batch that the plan takes, and discards all pictures but the first.
class TensorRtSession : public Session {
 public:
  // `plan` is the content of the file `name`.
  TensorRtSession(const std::string &plan, const std::string &name, const Manifest &manifest, const Graph &graph,
                  std::size_t rows, const pahi_options &options);
  ~TensorRtSession() override;

  void draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength, std::uint8_t *rgb) const override;

 private:
  void bind(const char *name, DataType type, const nvinfer1::Dims &shape, const DeviceBuffer &buffer) const;

  const pahi_options &options_;
  int device_;
  bool takes_strength_;
  std::unique_ptr<nvinfer1::IRuntime> runtime_;
  std::unique_ptr<nvinfer1::ICudaEngine> engine_;
  std::unique_ptr<nvinfer1::IExecutionContext> context_;
  Stream stream_;
  DeviceBuffer ids_, noise_, strength_, image_;
  mutable std::mutex one_at_a_time_;
};

std::size_t count(const std::array<std::uint32_t, 3> &shape) { return std::size_t{shape[0]} * shape[1] * shape[2]; }

TensorRtSession::TensorRtSession(const std::string &plan, const std::string &name, const Manifest &manifest,
                                 const Graph &graph, std::size_t rows, const pahi_options &options)
    : options_(options),
      device_(current_device()),
      takes_strength_(graph.takes_strength),
      runtime_(require(nvinfer1::createInferRuntime(logger()), "start")),
      engine_(require(runtime_->deserializeCudaEngine(plan.data(), plan.size()), "load " + name)),
      context_(require(engine_->createExecutionContext(), "make " + name + " ready: is the GPU's memory full?")),
      ids_(manifest.max_length * sizeof(std::int64_t), rows),
      noise_(count(manifest.latent_shape) * sizeof(float), rows),
      strength_(sizeof(float), rows),
      image_(count({manifest.height, manifest.width, 3}), rows) {
  const auto &latent = manifest.latent_shape;
  if (engine_->getNbIOTensors() != (takes_strength_ ? 4 : 3)) {
    throw Error(PAHI_BAD_BUNDLE, "the plan has not the inputs and outputs that pahi.json says");
  }
  bind("input_ids", DataType::kINT64, make_dims({rows, manifest.max_length}), ids_);
  bind("noise", DataType::kFLOAT, make_dims({rows, latent[0], latent[1], latent[2]}), noise_);
  if (takes_strength_) bind("prior_strength", DataType::kFLOAT, make_dims({rows}), strength_);
  bind("image", DataType::kUINT8, make_dims({rows, manifest.height, manifest.width, 3}), image_);
}

// TensorRT's objects must be destroyed on the GPU where they were made.
TensorRtSession::~TensorRtSession() {
  const Listening heard(options_);
  const OnDevice device(device_);
  context_.reset();
  engine_.reset();
  runtime_.reset();
}

// Checks what TensorRT assumes: with another shape, type, place or layout, it would read or write past the buffer.
void TensorRtSession::bind(const char *name, DataType type, const nvinfer1::Dims &shape,
                           const DeviceBuffer &buffer) const {
  const auto mode = engine_->getTensorIOMode(name);
  bool fits = mode != nvinfer1::TensorIOMode::kNONE && engine_->getTensorDataType(name) == type &&
              engine_->getTensorLocation(name) == nvinfer1::TensorLocation::kDEVICE &&
              engine_->getTensorFormat(name) == nvinfer1::TensorFormat::kLINEAR;
  if (fits && mode == nvinfer1::TensorIOMode::kINPUT) fits = context_->setInputShape(name, shape);
  fits = fits && are_equal(context_->getTensorShape(name), shape) && context_->setTensorAddress(name, buffer.get());
  if (!fits) throw Error(PAHI_BAD_BUNDLE, std::string("the plan's ") + name + " is not what pahi.json says");
}

void TensorRtSession::draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength,
                           std::uint8_t *rgb) const {
  const std::lock_guard<std::mutex> lock(one_at_a_time_);
  const Listening heard(options_);
  const OnDevice device(device_);
  check_cuda(device.result);
  ids_.upload(ids.data(), stream_);
  noise_.upload(noise.data(), stream_);
  strength_.upload(&strength, stream_);
  if (!context_->enqueueV3(stream_.get())) throw Error(PAHI_RUNTIME_ERROR, "TensorRT cannot run its plan");
  image_.download_first(rgb, stream_);
  stream_.wait();
}

}  // namespace

std::unique_ptr<Session> open_tensorrt(const std::filesystem::path &folder, const Manifest &manifest,
                                       const Graph &graph, const pahi_options &options) {
  const Listening heard(options);
  const std::string capability = compute_capability(current_device());
  const Plan &plan = manifest.choose_plan(graph, PAHI_TENSORRT, library_version(), capability);
  const std::string content = read_file(folder, plan.file, manifest.file(plan.file), kLargestPlan);
  return std::make_unique<TensorRtSession>(content, plan.file, manifest, graph, plan.least, options);
}

}  // namespace pahi
