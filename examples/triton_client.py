"""Draw four pictures in one request to a Triton server.

pahi-rt embed triton emoji -o models && tritonserver --model-repository=models
python triton_client.py localhost:8000 "a grinning cat" cat
"""

from __future__ import annotations

import sys

import numpy as np
import tritonclient.http as triton

SEEDS = 4


def main(address: str, prompt: str, stem: str) -> None:
    columns = {
        "prompt": ("BYTES", np.array([prompt.encode()] * SEEDS, object)),
        "seed": ("UINT64", np.arange(SEEDS, dtype=np.uint64)),
        "prior_strength": ("FP32", np.ones(SEEDS, np.float32)),
    }
    inputs = []
    for name, (kind, values) in columns.items():
        inputs.append(triton.InferInput(name, [SEEDS, 1], kind))
        inputs[-1].set_data_from_numpy(values.reshape(SEEDS, 1))
    client = triton.InferenceServerClient(address)
    for seed, png in enumerate(client.infer("generate_png", inputs).as_numpy("png").ravel()):
        path = f"{stem}-{seed}.png"
        with open(path, "wb") as file:
            file.write(png)
        print(path)
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
