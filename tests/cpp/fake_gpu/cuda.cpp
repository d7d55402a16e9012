// CUDA's runtime without a GPU: two RTX 3090 whose memory is the program's, as far as the C library uses it. As on real
// ones, what is enqueued happens when the stream is waited for, and what belongs to another GPU, or is no memory of one,
// is refused. Any call can be made to fail.
#include "cuda.hpp"

#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <vector>

namespace {

struct Memory {
  std::size_t size;
  int device;
};

struct Stream {
  int device;
  std::vector<std::function<void()>> work;
};

std::map<char *, Memory> memory;
int alive = 0, calls_until_failure = -1;
thread_local int current = 0;
thread_local cudaError_t last = cudaSuccess;

cudaError_t done(bool is_right) {
  auto result = is_right ? cudaSuccess : cudaErrorInvalidValue;
  if (calls_until_failure >= 0 && calls_until_failure-- == 0) result = cudaErrorMemoryAllocation;
  if (result != cudaSuccess) last = result;
  return result;
}

bool is_mine(const void *pointer, std::size_t size) {
  const auto *start = static_cast<const char *>(pointer);
  for (const auto &[begin, block] : memory) {
    if (start >= begin && start + size <= begin + block.size) return block.device == current;
  }
  return false;
}

}  // namespace

bool fake_enqueue(cudaStream_t stream, std::function<void()> work) {
  auto *own = reinterpret_cast<Stream *>(stream);
  if (own == nullptr || own->device != current) return false;
  own->work.push_back(std::move(work));
  return true;
}

extern "C" {

// Allocations and streams that were not freed; whether the thread has an error that nobody has taken.
int fake_cuda_alive() { return alive; }
int fake_cuda_last() { return last; }
// Lets the call fail that comes after `calls` others; -1: none.
void fake_cuda_fail(int calls) { calls_until_failure = calls; }
void fake_cuda_use(int device) { current = device; }
int fake_cuda_current() { return current; }

cudaError_t cudaGetLastError() {
  const auto error = last;
  last = cudaSuccess;
  return error;
}

cudaError_t cudaGetDevice(int *device) {
  *device = current;
  return done(true);
}

cudaError_t cudaSetDevice(int device) {
  const auto result = done(device == 0 || device == 1);
  if (result == cudaSuccess) current = device;
  return result;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 6;
  return done(true);
}

cudaError_t cudaMalloc(void **pointer, size_t size) {
  const auto result = done(true);
  if (result != cudaSuccess) return result;
  auto *block = static_cast<char *>(std::malloc(size));
  memory[block] = {size, current};
  ++alive;
  *pointer = block;
  return result;
}

cudaError_t cudaFree(void *pointer) {
  alive -= static_cast<int>(memory.erase(static_cast<char *>(pointer)));
  std::free(pointer);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  const bool is_up = kind == cudaMemcpyHostToDevice;
  if (!is_mine(is_up ? target : source, size)) return done(false);
  if (!is_up) return done(fake_enqueue(stream, [=] { std::memcpy(target, source, size); }));
  const auto *bytes = static_cast<const char *>(source);  // read at once, as pageable memory is
  return done(fake_enqueue(stream, [target, size, staged = std::vector<char>(bytes, bytes + size)] {
    std::memcpy(target, staged.data(), size);
  }));
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int) {
  const auto result = done(true);
  if (result != cudaSuccess) return result;
  ++alive;
  *stream = reinterpret_cast<cudaStream_t>(new Stream{current, {}});
  return result;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  --alive;
  delete reinterpret_cast<Stream *>(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  auto &work = reinterpret_cast<Stream *>(stream)->work;
  for (const auto &step : work) step();
  work.clear();
  return done(true);
}

const char *cudaGetErrorString(cudaError_t error) { return error == cudaErrorMemoryAllocation ? "out of memory" : "wrong"; }

}  // extern "C"
