#pragma once

#include <cuda_runtime_api.h>

#include <functional>

// False for what is no stream of the current GPU.
bool fake_enqueue(cudaStream_t stream, std::function<void()> work);

extern "C" int fake_cuda_current();
