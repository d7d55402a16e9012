#include "pahi.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "error.hpp"
#include "file.hpp"
#include "log.hpp"
#include "manifest.hpp"
#include "noise.hpp"
#include "session.hpp"
#include "tokenizer.hpp"

struct pahi_pipeline {
  pahi_pipeline(const std::filesystem::path &folder, const pahi_options &options);

  pahi_options options;
  pahi::Manifest manifest;
  std::string prior;
  const pahi::Graph &graph;
  pahi::Tokenizer tokenizer;
  std::unique_ptr<const pahi::Session> session;
};

namespace {

using pahi::Error;

constexpr std::uintmax_t kLargestManifest = 1 << 20;    // bytes
constexpr std::uintmax_t kLargestTokenizer = 64 << 20;  // bytes

thread_local std::string last_error;

// A struct as a program gives it. There is one size so far; fields of later versions will get their defaults.
template <typename Struct>
Struct read_struct(const Struct &given) {
  if (given.struct_size != sizeof(Struct)) {
    throw Error(PAHI_BAD_ARGUMENT, "struct_size is not one that this version knows: use pahi_..._init");
  }
  return given;
}

template <typename Struct>
void write_struct(const Struct &usual, Struct *target, std::size_t size) {
  if (target == nullptr || size < sizeof(std::size_t)) return;
  std::memcpy(static_cast<void *>(target), &usual, std::min(size, sizeof(Struct)));
  target->struct_size = size;
}

float choose_strength(const pahi_pipeline &pipeline, float wanted) {
  if (std::isnan(wanted) || wanted > 1) throw Error(PAHI_BAD_ARGUMENT, "prior_strength is none of 0..1");
  const bool has_prior = pipeline.prior != "gaussian";
  if (wanted < 0) return has_prior ? 1.0f : 0.0f;
  if (wanted > 0 && !has_prior) throw Error(PAHI_BAD_ARGUMENT, "a strength needs a prior, and there is none");
  return wanted;
}

void check(bool holds, const char *what) {
  if (!holds) throw Error(PAHI_BAD_ARGUMENT, what);
}

pahi_status fail(pahi_status status, const char *what) noexcept {
  try {
    last_error = pahi::printable(what);
  } catch (...) {  // no memory for the text
    last_error.clear();
  }
  return status;
}

// No exception may leave the library.
template <typename Work>
pahi_status guard(const Work &work) noexcept {
  try {
    work();
    return PAHI_OK;
  } catch (const Error &error) {
    return fail(error.status, error.what());
  } catch (const std::bad_alloc &) {
    return fail(PAHI_OUT_OF_MEMORY, "out of memory");
  } catch (const std::exception &error) {
    return fail(PAHI_RUNTIME_ERROR, error.what());
  } catch (...) {
    return fail(PAHI_RUNTIME_ERROR, "a callback threw what is no exception");
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
    pipeline.session->draw(ids, pahi::draw_noise(request.seed + i, values), strength, rgb + i * picture);
    if (request.progress != nullptr && request.progress(request.progress_user, i + 1, request.count) != 0) {
      throw Error(PAHI_CANCELLED, "cancelled");
    }
  }
}

}  // namespace

pahi_pipeline::pahi_pipeline(const std::filesystem::path &folder, const pahi_options &options)
    : options(options),
      manifest(pahi::read_file(folder, "pahi.json", kLargestManifest)),
      prior(options.prior == nullptr ? manifest.best_prior() : options.prior),
      graph(manifest.choose(options.steps, prior,
                            options.precision == nullptr ? manifest.first_precision() : options.precision)),
      tokenizer(pahi::read_file(folder, manifest.tokenizer, manifest.file(manifest.tokenizer), kLargestTokenizer),
                manifest.max_length, manifest.pad),
      session(open_session(folder, manifest, graph, this->options)) {
  pahi::say(options, PAHI_LOG_INFO, ("opened " + folder.string() + ": " + graph.file).c_str());
}

extern "C" {

void pahi_options_init_sized(pahi_options *options, size_t size) {
  write_struct<pahi_options>({sizeof(pahi_options), 1, nullptr, nullptr, nullptr, 0, nullptr, nullptr}, options, size);
}

void pahi_request_init_sized(pahi_request *request, size_t size) {
  write_struct<pahi_request>({sizeof(pahi_request), nullptr, 0, 1, -1.0f, nullptr, nullptr}, request, size);
}

pahi_status pahi_open(const char *path, const pahi_options *options, pahi_pipeline **pipeline) {
  return guard([&] {
    check(path != nullptr && pipeline != nullptr, "path or pipeline is NULL");
    *pipeline = nullptr;
    pahi_options usual;
    pahi_options_init(&usual);
    *pipeline = new pahi_pipeline(path, read_struct(options == nullptr ? usual : *options));
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
    const pahi_request own = read_struct(*request);
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
