// CUDA's runtime without a GPU: an RTX 3090 whose memory is the program's, as far as the C library uses it.
#include <cuda_runtime_api.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

static std::atomic<int> alive{0};

extern "C" {

int fake_cuda_alive() { return alive; }  // allocations and streams that were not freed

cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 8 : 6;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t size) {
  *pointer = std::malloc(size);
  ++alive;
  return cudaSuccess;
}

cudaError_t cudaFree(void *pointer) {
  std::free(pointer);
  --alive;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t size, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(target, source, size);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int) {
  *stream = reinterpret_cast<cudaStream_t>(&alive);
  ++alive;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t) { return --alive, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "no such device"; }

}  // extern "C"
