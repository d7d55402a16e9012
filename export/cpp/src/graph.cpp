#include "graph.hpp"

#include <array>

#include "error.hpp"

namespace pahi {
namespace {

Ort::SessionOptions make_options(std::uint32_t threads) {
  Ort::SessionOptions options;
  if (threads > 0) options.SetIntraOpNumThreads(static_cast<int>(threads));
  // Else its threads keep the cores busy after a picture.
  options.AddConfigEntry("session.force_spinning_stop", "1");
  return options;
}

}  // namespace

Session::Session(const std::filesystem::path &file, const Manifest &manifest, const Graph &graph,
                 std::uint32_t threads)
    : manifest_(manifest),
      takes_strength_(graph.takes_strength),
      env_(ORT_LOGGING_LEVEL_ERROR, "pahi"),
      session_(env_, file.c_str(), make_options(threads)) {
  const std::size_t expected = takes_strength_ ? 3 : 2;
  if (session_.GetInputCount() != expected || session_.GetOutputCount() != 1) {
    throw Error(PAHI_BAD_BUNDLE, file.string() + " has other inputs and outputs than its manifest says");
  }
}

void Session::draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength, std::uint8_t *rgb) const {
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

}  // namespace pahi
