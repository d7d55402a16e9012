// Memory and a stream of a GPU, freed with their objects. Errors of CUDA are thrown.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "error.hpp"

namespace pahi {

inline void check_cuda(cudaError_t result) {
  if (result == cudaSuccess) return;
  cudaGetLastError();  // clears the error, which the program would else take for its own
  const auto status = result == cudaErrorMemoryAllocation ? PAHI_OUT_OF_MEMORY : PAHI_RUNTIME_ERROR;
  throw Error(status, std::string("CUDA: ") + cudaGetErrorString(result));
}

// Makes a GPU the thread's current one, and restores the previous one at the end. CUDA remembers one for each thread.
class OnDevice {
 public:
  explicit OnDevice(int device) noexcept {
    result = cudaGetDevice(&before_);
    if (result == cudaSuccess) result = cudaSetDevice(device);
  }
  OnDevice(const OnDevice &) = delete;
  OnDevice &operator=(const OnDevice &) = delete;
  ~OnDevice() { cudaSetDevice(before_); }

  cudaError_t result;

 private:
  int before_ = 0;
};

class Stream {
 public:
  Stream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  Stream(const Stream &) = delete;
  Stream &operator=(const Stream &) = delete;
  ~Stream() { cudaStreamDestroy(stream_); }

  cudaStream_t get() const { return stream_; }
  void wait() const { check_cuda(cudaStreamSynchronize(stream_)); }

 private:
  cudaStream_t stream_ = nullptr;
};

// `rows` times `size` bytes.
class DeviceBuffer {
 public:
  DeviceBuffer(std::size_t size, std::size_t rows) : size_(size), rows_(rows) {
    check_cuda(cudaMalloc(&data_, size * rows));
  }
  DeviceBuffer(const DeviceBuffer &) = delete;
  DeviceBuffer &operator=(const DeviceBuffer &) = delete;
  ~DeviceBuffer() { cudaFree(data_); }

  void *get() const { return data_; }

  // Fills every row with the same bytes.
  void upload(const void *row, const Stream &stream) const {
    for (std::size_t i = 0; i < rows_; ++i) {
      char *target = static_cast<char *>(data_) + i * size_;
      check_cuda(cudaMemcpyAsync(target, row, size_, cudaMemcpyHostToDevice, stream.get()));
    }
  }

  void download_first(void *row, const Stream &stream) const {
    check_cuda(cudaMemcpyAsync(row, data_, size_, cudaMemcpyDeviceToHost, stream.get()));
  }

 private:
  void *data_ = nullptr;
  std::size_t size_, rows_;
};

}  // namespace pahi
