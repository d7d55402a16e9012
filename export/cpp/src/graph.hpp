// The fused graph in ONNX Runtime.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "manifest.hpp"

namespace pahi {

class Session {
 public:
  // `threads` 0 leaves it to ONNX Runtime. Throws Ort::Exception, and Error for a graph that is not the manifest's.
  Session(const std::filesystem::path &file, const Manifest &manifest, const Graph &graph, std::uint32_t threads,
          OrtLoggingFunction log, void *log_user);

  // One picture: `ids` [T] and `noise` [C * h * w] -> `rgb` [H * W * 3]. May be called from several threads.
  void draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength, std::uint8_t *rgb) const;

 private:
  const Manifest &manifest_;
  bool takes_strength_;
  Ort::Env env_;
  mutable Ort::Session session_;
};

}  // namespace pahi
