"""What is published of the machines that `pahi-rt bench scaling` reckons with: peak rates and prices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU."""

    name: str
    fp16_tflops: float
    """Peak of the tensor cores, dense, in 10^12 operations a second."""
    gb_per_s: float
    """Peak of its memory."""
    dollars_per_s: float
    """Price of a second of a machine with one."""

    @property
    def dollars_per_h(self) -> float:
        return 3600 * self.dollars_per_s


# Peaks: NVIDIA's architecture papers for GA102 (RTX 3090) and Ada (RTX 4090, L4) and its data sheets of H100 and H200;
# where two are given, the one that sums in 16 bits. Prices: RunPod's documentation, "Serverless pricing", flex workers.
L4 = Card("L4", 121.0, 300.0, 0.00019)
RTX_3090 = Card("RTX 3090", 142.0, 936.0, 0.00019)
RTX_4090 = Card("RTX 4090", 330.0, 1008.0, 0.00031)
H100 = Card("H100", 989.0, 3350.0, 0.00116)
H200 = Card("H200", 989.0, 4800.0, 0.00155)

CPU = "2 cores, AMD EPYC"
CPU_DOLLARS_PER_H = 0.1026
"""A c7a.large of AWS (two cores of AMD EPYC), on demand, us-east-1."""

RTX_4090_PER_S = 106.16
"""Pictures a second that StreamDiffusion's README gives for SD-Turbo in one step on an RTX 4090.

TensorRT, the tiny decoder, 512 x 512, and the prompt encoded before."""

CORES_BESIDE_A_GPU = 8
S3_DOLLARS_PER_GB_MONTH, S3_DOLLARS_PER_1000_PUTS, S3_PUTS_PER_S = 0.023, 0.005, 3500
"""S3 Standard, us-east-1; the last for one prefix."""

PRICES = (
    "a CPU machine: c7a.large of AWS (two cores of AMD EPYC), on demand in us-east-1, as price lists of 2026 have it",
    "GPUs: RunPod's documentation, page “Serverless pricing”, flex workers by the second, in a copy without a date that"
    " was read in November 2026; marketplaces ask less: OpenRelay's list of 20 September 2026 has an RTX 3090 for $0.18"
    " an hour, an RTX 4090 for $0.29 and an H100 for $2.60",
    "storage: S3 Standard in us-east-1",
)
"""Where the prices come from, for people."""
