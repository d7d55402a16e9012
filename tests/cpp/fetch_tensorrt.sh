#!/usr/bin/env bash
# Headers of TensorRT and CUDA out of wheels, into the folder $1, with the Python $2. NVIDIA's own wheels bring none of
# TensorRT; these are its 10.14, under the Apache licence.
set -euo pipefail
mkdir -p "$1"
cd "$1"
"$2" -m pip download -qq --disable-pip-version-check --no-deps --only-binary :all: --dest wheels \
    kernel-lens==2.0.1 nvidia-cuda-runtime==13.5.37 nvidia-cuda-crt==13.5.37
for wheel in wheels/*.whl; do "$2" -m zipfile -e "$wheel" wheels; done
rm -rf tensorrt cuda
mv wheels/kernel_lens/include/tensorrt tensorrt
mv wheels/nvidia/cu13 cuda
rm -rf wheels
