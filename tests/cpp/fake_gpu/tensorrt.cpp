// TensorRT without a GPU: its interface, and plans that say in words which shapes they take. What is drawn depends on
// every input, so that a test can tell whether each has come where it belongs.
#include <NvInferRuntime.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <sstream>
#include <string>
#include <vector>

#include "cuda.hpp"
#include "stubs.hpp"  // of all that is not overridden here, made from TensorRT's headers

namespace {

using namespace nvinfer1;

struct Tensor {
  TensorIOMode mode;
  TensorLocation location;
  TensorFormat format;
  DataType type;
  std::vector<std::int64_t> row;  // the shape without the batch
};

struct Plan {
  std::int64_t least, most;
  std::map<std::string, Tensor> tensors;
};

int alive = 0, devices_wrong = 0;

// TensorRT's objects belong to the GPU on which they were made.
class Owned {
 public:
  Owned() { ++alive; }
  ~Owned() {
    --alive;
    devices_wrong += fake_cuda_current() != device_;
  }

 private:
  int device_ = fake_cuda_current();
};

std::int64_t volume(const std::vector<std::int64_t> &shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

class Context : public IExecutionContext, StubExecutionContext, Owned {
 public:
  explicit Context(const Plan &plan) : plan_(plan) { mImpl = this; }

  bool setInputShape(const char *name, const Dims &dims) noexcept override {
    const auto &row = plan_.tensors.at(name).row;
    const bool fits = dims.nbDims == static_cast<int>(row.size()) + 1 && std::equal(row.begin(), row.end(), dims.d + 1);
    if (!fits || dims.d[0] < plan_.least || dims.d[0] > plan_.most) return false;
    batch_ = dims.d[0];
    return true;
  }

  Dims getTensorShape(const char *name) const noexcept override {
    Dims dims{};
    dims.d[dims.nbDims++] = batch_;
    for (const auto size : plan_.tensors.at(name).row) dims.d[dims.nbDims++] = size;
    return dims;
  }

  bool setTensorAddress(const char *name, void *data) noexcept override {
    addresses_[name] = data;
    return true;
  }

  bool enqueueV3(cudaStream_t stream) noexcept override {
    return addresses_.size() == plan_.tensors.size() && fake_enqueue(stream, [this] { draw_all(); });
  }

 private:
  void draw_all() {
    for (std::int64_t i = 0; i < batch_; ++i) draw(i);
    const auto size = volume(plan_.tensors.at("image").row);
    // Rows that nobody filled would draw anything; whoever wants one picture fills all of them alike.
    const auto *image = row<std::uint8_t>("image", 0);
    if (!std::equal(image, image + (batch_ - 1) * size, image + size)) std::fill_n(row<std::uint8_t>("image", 0), size, 0);
  }

  template <typename Value>
  Value *row(const char *name, std::int64_t i) const {
    return static_cast<Value *>(addresses_.at(name)) + i * volume(plan_.tensors.at(name).row);
  }

  // A pixel is the sum of all ids, a thousand times a noise value, and ten times the strength.
  void draw(std::int64_t i) const {
    const auto tokens = volume(plan_.tensors.at("input_ids").row), values = volume(plan_.tensors.at("noise").row);
    const auto *ids = row<std::int64_t>("input_ids", i);
    const auto *noise = row<float>("noise", i);
    const bool has_strength = plan_.tensors.count("prior_strength") > 0;
    const auto strength = has_strength ? std::lround(10 * *row<float>("prior_strength", i)) : 0;
    const auto sum = std::accumulate(ids, ids + tokens, std::int64_t{0}) + strength;
    auto *image = row<std::uint8_t>("image", i);
    for (std::int64_t p = 0; p < volume(plan_.tensors.at("image").row); ++p) {
      image[p] = static_cast<std::uint8_t>(sum + static_cast<std::int64_t>(1000 * std::fabs(noise[p % values])));
    }
  }

  const Plan &plan_;
  std::int64_t batch_ = -1;
  std::map<std::string, void *> addresses_;
};

class Engine : public ICudaEngine, StubCudaEngine, Owned {
 public:
  explicit Engine(Plan plan) : plan_(std::move(plan)) { mImpl = this; }

  std::int32_t getNbIOTensors() const noexcept override { return static_cast<std::int32_t>(plan_.tensors.size()); }
  DataType getTensorDataType(const char *name) const noexcept override { return plan_.tensors.at(name).type; }
  TensorIOMode getTensorIOMode(const char *name) const noexcept override {
    const auto found = plan_.tensors.find(name);
    return found == plan_.tensors.end() ? TensorIOMode::kNONE : found->second.mode;
  }
  TensorLocation getTensorLocation(const char *name) const noexcept override { return plan_.tensors.at(name).location; }
  TensorFormat getTensorFormat(const char *name) const noexcept override { return plan_.tensors.at(name).format; }
  IExecutionContext *createExecutionContext(ExecutionContextAllocationStrategy) noexcept override {
    return new Context(plan_);
  }

 private:
  Plan plan_;
};

// "fake 1 4", then a line for each tensor: its name, "in" or "out" (of the GPU's memory, linear; "in-host" and "in-chw32"
// are others), the number of its type, its shape.
ICudaEngine *read_plan(const std::string &text) {
  std::istringstream lines(text);
  std::string line, word;
  Plan plan{};
  if (!(lines >> word >> plan.least >> plan.most) || word != "fake") return nullptr;
  std::getline(lines, line);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    std::string name, mode;
    int type = 0;
    words >> name >> mode >> type;
    Tensor tensor{mode == "out" ? TensorIOMode::kOUTPUT : TensorIOMode::kINPUT,
                  mode == "in-host" ? TensorLocation::kHOST : TensorLocation::kDEVICE,
                  mode == "in-chw32" ? TensorFormat::kCHW32 : TensorFormat::kLINEAR,
                  static_cast<DataType>(type),
                  {}};
    for (std::int64_t size; words >> size;) tensor.row.push_back(size);
    plan.tensors[name] = tensor;
  }
  return new Engine(plan);
}

class Runtime : public IRuntime, StubRuntime, Owned {
 public:
  explicit Runtime(ILogger &logger) : logger_(logger) { mImpl = this; }

  ICudaEngine *deserializeCudaEngine(const void *blob, std::size_t size) noexcept override {
    auto *engine = read_plan(std::string(static_cast<const char *>(blob), size));
    if (engine == nullptr) logger_.log(ILogger::Severity::kERROR, "Error Code 1: Serialization");
    return engine;
  }

 private:
  ILogger &logger_;
};

}  // namespace

extern "C" {
int fake_tensorrt_alive() { return alive; }
int fake_tensorrt_misplaced() { return devices_wrong; }  // objects that were destroyed on another GPU
void *createInferRuntime_INTERNAL(void *logger, std::int32_t) noexcept {
  return static_cast<IRuntime *>(new Runtime(*static_cast<ILogger *>(logger)));
}
std::int32_t getInferLibMajorVersion() noexcept { return 10; }
std::int32_t getInferLibMinorVersion() noexcept { return 14; }
std::int32_t getInferLibPatchVersion() noexcept { return 1; }
std::int32_t getInferLibBuildVersion() noexcept { return 48; }
}
