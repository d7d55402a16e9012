// A session: a fused graph, loaded by a runtime.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "manifest.hpp"
#include "pahi.h"

namespace pahi {

class Session {
 public:
  Session() = default;
  Session(const Session &) = delete;
  Session &operator=(const Session &) = delete;
  virtual ~Session() = default;

  // One picture: `ids` [T] and `noise` [C * h * w] -> `rgb` [H * W * 3]. May be called from several threads.
  virtual void draw(std::vector<std::int64_t> ids, std::vector<float> noise, float strength,
                    std::uint8_t *rgb) const = 0;
};

// Loads a session of the runtime that the options name. The manifest and the options must outlive it. Throws Error, and
// the runtime's own exceptions.
std::unique_ptr<Session> open_session(const std::filesystem::path &folder, const Manifest &manifest,
                                      const Graph &graph, const pahi_options &options);

std::unique_ptr<Session> open_onnxruntime(const std::filesystem::path &folder, const Manifest &manifest,
                                          const Graph &graph, const pahi_options &options);

// Loads a plan of TensorRT or TensorRT for RTX, whichever this library was built with. Throws Error(PAHI_BAD_BUNDLE) if
// there is no plan of that graph for the current GPU.
std::unique_ptr<Session> open_tensorrt(const std::filesystem::path &folder, const Manifest &manifest,
                                       const Graph &graph, const pahi_options &options);

}  // namespace pahi
