#include "pahi.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <new>
#include <string>

#include "error.hpp"
#include "graph.hpp"
#include "manifest.hpp"
#include "noise.hpp"
#include "tokenizer.hpp"

struct pahi_pipeline {
  pahi_pipeline(const std::filesystem::path &folder, const pahi_options &options);

  pahi::Manifest manifest;
  const pahi::Graph &graph;
  bool has_prior;
  pahi::Tokenizer tokenizer;
  pahi::Session session;
};

namespace {

using pahi::Error;

thread_local std::string last_error;

std::string read_text(const std::filesystem::path &path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw Error(PAHI_BAD_BUNDLE, path.string() + " cannot be read");
  return text;
}

const char *or_empty(const char *text) { return text == nullptr ? "" : text; }

// What a program compiled with another header gives, as this version's struct: fields that it lacks are the usual ones.
template <typename Struct>
Struct read_struct(const Struct *given, void (*init)(Struct *)) {
  Struct own;
  init(&own);
  if (given == nullptr) return own;
  if (given->struct_size < sizeof(std::size_t) || given->struct_size > sizeof(Struct)) {
    throw Error(PAHI_BAD_ARGUMENT, "struct_size is not one that this version knows: use pahi_..._init");
  }
  std::memcpy(&own, given, given->struct_size);
  return own;
}

float choose_strength(const pahi_pipeline &pipeline, float wanted) {
  if (std::isnan(wanted) || wanted > 1) throw Error(PAHI_BAD_ARGUMENT, "prior_strength is none of 0..1");
  if (wanted < 0) return pipeline.has_prior ? 1.0f : 0.0f;
  if (wanted > 0 && !pipeline.has_prior) throw Error(PAHI_BAD_ARGUMENT, "a strength needs a prior, and there is none");
  return wanted;
}

void check(bool holds, const char *what) {
  if (!holds) throw Error(PAHI_BAD_ARGUMENT, what);
}

pahi_status guard(const std::function<void()> &work) {
  try {
    work();
    return PAHI_OK;
  } catch (const Error &error) {
    last_error = error.what();
    return error.status;
  } catch (const std::bad_alloc &) {
    last_error = "out of memory";
    return PAHI_OUT_OF_MEMORY;
  } catch (const std::exception &error) {
    last_error = error.what();
    return PAHI_RUNTIME_ERROR;
  }
}

void draw(const pahi_pipeline &pipeline, const pahi_request &request, std::uint8_t *rgb, std::size_t size) {
  const auto &latent = pipeline.manifest.latent_shape;
  const std::size_t values = std::size_t{latent[0]} * latent[1] * latent[2];
  const std::size_t picture = std::size_t{pipeline.manifest.height} * pipeline.manifest.width * 3;
  check(request.count > 0, "count is 0");
  check(request.seed + (request.count - 1) >= request.seed, "there are no seeds past 2^64 - 1");
  check(size / picture >= request.count, "rgb is too small for the pictures");
  const float strength = choose_strength(pipeline, request.prior_strength);
  const auto ids = pipeline.tokenizer.encode(request.prompt);
  for (std::uint32_t i = 0; i < request.count; ++i) {
    pipeline.session.draw(ids, pahi::draw_noise(request.seed + i, values), strength, rgb + i * picture);
    if (request.progress != nullptr && request.progress(request.progress_user, i + 1, request.count) != 0) {
      throw Error(PAHI_CANCELLED, "cancelled");
    }
  }
}

}  // namespace

pahi_pipeline::pahi_pipeline(const std::filesystem::path &folder, const pahi_options &options)
    : manifest(read_text(folder / "pahi.json")),
      graph(manifest.choose(options.steps, or_empty(options.prior), or_empty(options.precision))),
      has_prior((options.prior == nullptr ? manifest.best_prior() : options.prior) != std::string("gaussian")),
      tokenizer(read_text(find_file(folder, manifest, manifest.tokenizer)), manifest.max_length, manifest.pad),
      session((std::for_each(graph.weights.begin(), graph.weights.end(),
                             [&](const std::string &name) { find_file(folder, manifest, name); }),
               find_file(folder, manifest, graph.file)),
              manifest, graph, options.threads) {}

extern "C" {

void pahi_options_init(pahi_options *options) {
  if (options != nullptr) *options = {sizeof(pahi_options), 1, nullptr, nullptr, 0, nullptr, nullptr};
}

void pahi_request_init(pahi_request *request) {
  if (request != nullptr) *request = {sizeof(pahi_request), nullptr, 0, 1, -1.0f, nullptr, nullptr};
}

pahi_status pahi_open(const char *path, const pahi_options *options, pahi_pipeline **pipeline) {
  return guard([&] {
    check(path != nullptr && pipeline != nullptr, "path or pipeline is NULL");
    *pipeline = nullptr;
    const pahi_options own = read_struct(options, pahi_options_init);
    auto opened = std::make_unique<pahi_pipeline>(path, own);
    if (own.log != nullptr) {
      const std::string text = std::string("opened ") + path + ": " + opened->graph.file;
      own.log(own.log_user, PAHI_LOG_INFO, text.c_str());
    }
    *pipeline = opened.release();
  });
}

void pahi_close(pahi_pipeline *pipeline) { delete pipeline; }

pahi_status pahi_image_size(const pahi_pipeline *pipeline, uint32_t *width, uint32_t *height) {
  return guard([&] {
    check(pipeline != nullptr && width != nullptr && height != nullptr, "an argument is NULL");
    *width = pipeline->manifest.width;
    *height = pipeline->manifest.height;
  });
}

pahi_status pahi_draw(pahi_pipeline *pipeline, const pahi_request *request, uint8_t *rgb, size_t size) {
  return guard([&] {
    check(pipeline != nullptr && request != nullptr && rgb != nullptr, "an argument is NULL");
    const pahi_request own = read_struct(request, pahi_request_init);
    check(own.prompt != nullptr, "the prompt is NULL");
    draw(*pipeline, own, rgb, size);
  });
}

pahi_status pahi_tokenize(const pahi_pipeline *pipeline, const char *prompt, int64_t *ids, size_t capacity,
                          size_t *count) {
  return guard([&] {
    check(pipeline != nullptr && prompt != nullptr && count != nullptr, "an argument is NULL");
    check(ids != nullptr || capacity == 0, "ids is NULL");
    const auto found = pipeline->tokenizer.encode(prompt);
    *count = found.size();
    std::copy_n(found.begin(), std::min(capacity, found.size()), ids);
  });
}

const char *pahi_last_error(void) { return last_error.c_str(); }

const char *pahi_version(void) { return PAHI_VERSION; }

}  // extern "C"
