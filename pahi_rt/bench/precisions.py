"""python -m pahi_rt.bench.precisions BUNDLE: what each precision of a bundle costs in quality, and what it saves.

BUNDLE holds fp32 among its precisions, and a prior or none. Each precision draws the same prompts of a recipe's test
part from the same noises, the prior at full strength, one picture at a time, on each runtime; fp32 on ONNX Runtime is
what all are compared with: PSNR over all pictures, and of the worst; SSIM; and the change of the mean score by each of
the recipe's scorers, in % of its standard deviation over the pictures, for the mean itself may be near zero. Runtimes
and precisions take turns, untimed pictures before each timed one; times are medians in milliseconds of the graph
alone. The last line of stdout is the same data as one JSON document.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pahi_rt import PahiError
from pahi_rt.bench import machine
from pahi_rt.bench.report import add_options, run
from pahi_rt.bench.scores import load_jury, score
from pahi_rt.bench.timing import UNTIMED, ratio, take_turns
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.noise import draw_noise
from pahi_rt.pipeline import load_tokenizer
from pahi_rt.runtimes import Runtime, load

REFERENCE = ("fp32", "onnxruntime")
Key = tuple[str, str]
"""Precision and runtime."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="pahi_rt.bench.precisions", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("bundle")
    parser.add_argument("--recipe", default="emoji", help="whose test prompts and scorers are used")
    parser.add_argument("--runtimes", default="onnxruntime,openvino")
    parser.add_argument("--prompts", type=int, default=320, help="at most so many")
    add_options(parser)
    args = parser.parse_args()
    runtimes = args.runtimes.split(",")
    return run(lambda: measure(args.bundle, args.recipe, runtimes, args.prompts, args.force), print_table, args.output)


def measure(source: str, recipe: str, runtimes: Sequence[str], count: int, force: bool = False) -> dict[str, Any]:
    """The whole report. Raises PahiError for a busy machine, a bundle without fp32, and as the loaders do."""
    busy, environment = machine.check_idle(force), machine.describe()
    bundle = open_bundle(source)
    if REFERENCE[0] not in bundle.precisions:
        fix = "export one that has: --precision fp32,int8"
        raise PahiError(f"the bundle {source!r} has no fp32 to compare with", fix=fix)
    prompts, scorers = load_jury(recipe, count)
    keys = sorted({REFERENCE, *((p, r) for p in bundle.precisions for r in runtimes)}, key=lambda key: key != REFERENCE)
    loaded = {key: load(bundle, name=key[1], precision=key[0]) for key in keys}
    pictures, times = draw(bundle, loaded, prompts)
    expected = pictures[REFERENCE]
    base = {label: score(scorer, expected, prompts) for label, scorer in scorers.items()}
    rows = [
        {"precision": key[0], "runtime": key[1], "ms": round(statistics.median(times[key]), 2)}
        | {"time_over_fp32": ratio(times[key], times[REFERENCE], 3)["median"]}
        | compare(pictures[key], expected)
        | {
            f"{label}_change_percent_of_sd": change(score(scorer, pictures[key], prompts), base[label])
            for label, scorer in scorers.items()
        }
        for key in keys
    ]
    return {
        "command": machine.command("python", "-m", "pahi_rt.bench.precisions"),
        "bundle": bundle.manifest.name,
        "prompts": len(prompts),
        "fp32_scores": {
            label: {"mean": round(float(values.mean()), 4), "sd": round(float(values.std()), 4)}
            for label, values in base.items()
        },
        "busy": busy,
        "machine": environment,
        "rows": rows,
    }


def draw(
    bundle: Bundle, runtimes: Mapping[Key, Runtime], prompts: Sequence[str]
) -> tuple[dict[Key, NDArray[np.uint8]], dict[Key, list[float]]]:
    """Pictures [N, H, W, 3] and milliseconds of each; prompt number i has the noise of seed i."""
    tokenizer, image = load_tokenizer(bundle), bundle.manifest.image
    strength = np.ones(1, np.float32)
    inputs = [
        (tokenizer.encode([prompt]).input_ids, draw_noise([i], image.latent_shape), strength)
        for i, prompt in enumerate(prompts)
    ]
    pictures: dict[Key, NDArray[np.uint8]] = {
        key: np.empty((len(prompts), image.height, image.width, 3), np.uint8) for key in runtimes
    }

    def one(key: Key, number: int) -> None:
        pictures[key][max(number, 0)] = runtimes[key].run(*inputs[max(number, 0)])[0]

    taken = take_turns([partial(one, key) for key in runtimes], len(prompts), untimed=UNTIMED)
    return pictures, dict(zip(runtimes, taken, strict=True))


def compare(drawn: NDArray[np.uint8], expected: NDArray[np.uint8]) -> dict[str, float | None]:
    """PSNR in dB over all pictures and of the worst, null if they are equal; mean SSIM."""
    from skimage.metrics import structural_similarity

    errors = ((drawn.astype(np.float64) - expected) ** 2).mean((1, 2, 3)) / 255**2
    alike = [structural_similarity(a, b, channel_axis=-1) for a, b in zip(drawn, expected, strict=True)]
    return {
        "psnr_db": _psnr(errors.mean()),
        "worst_psnr_db": _psnr(errors.max()),
        "ssim": round(float(np.mean(alike)), 4),
    }


def _psnr(error: float) -> float | None:
    return round(-10 * float(np.log10(error)), 2) if error else None


def change(own: Tensor, base: Tensor) -> float:
    """Of the mean, in % of the standard deviation."""
    return round(100 * float((own.mean() - base.mean()) / base.std()), 2)


def print_table(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    sys.exit(main())
