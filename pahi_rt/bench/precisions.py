"""pahi-rt bench precisions BUNDLE: what each precision of a bundle costs in quality, and what it saves.

The bundle must hold fp32; it may have a prior. Each precision draws the same prompts of a recipe's test part from the
same noise, the prior at full strength, one picture at a time, on each runtime. All are compared with fp32 on ONNX
Runtime: PSNR over all pictures and of the worst one, SSIM, and the change of the mean score by each of the recipe's
scorers. That change is in % of the score's standard deviation between pictures, because the mean itself may be near
zero. Runtimes and precisions take turns, with an untimed picture before each timed one; times are medians of the graph
alone, in milliseconds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pahi_rt import PahiError
from pahi_rt.bench import machine
from pahi_rt.bench.reports.precisions import Fidelity, PrecisionRow, PrecisionsReport, ScoreSpread
from pahi_rt.bench.scores import load_jury, score
from pahi_rt.bench.timing import UNTIMED, ratio, take_turns
from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.noise import draw_noise
from pahi_rt.pictures import rounded_psnr, squared_errors, structural_similarities
from pahi_rt.pipeline import load_tokenizer
from pahi_rt.runtimes import Runtime, load

REFERENCE = ("fp32", "onnxruntime")
Key = tuple[str, str]
"""Precision and runtime."""


def measure(source: str, recipe: str, runtimes: Sequence[str], count: int, force: bool = False) -> PrecisionsReport:
    """The whole report. Raises PahiError for a busy machine and a bundle without fp32, and what the loaders raise."""
    busy, environment = machine.check_idle(force), machine.describe()
    bundle = open_bundle(source)
    if REFERENCE[0] not in bundle.precisions:
        fix = "export one that has: --precision fp32,int8"
        raise PahiError(f"the bundle {source!r} has no fp32 to compare with", fix=fix)
    prompts, scorers = load_jury(recipe, count)
    keys = sorted({REFERENCE, *((p, r) for p in bundle.precisions for r in runtimes)}, key=lambda key: key != REFERENCE)
    loaded = {key: load(bundle, name=key[1], precision=key[0]) for key in keys}
    pictures, times = draw(bundle, loaded, prompts)
    base = {label: score(scorer, pictures[REFERENCE], prompts) for label, scorer in scorers.items()}
    rows = [
        PrecisionRow(
            precision=key[0],
            runtime=key[1],
            ms=round(statistics.median(times[key]), 2),
            time_over_fp32=ratio(times[key], times[REFERENCE], 3).median,
            fidelity=compare(pictures[key], pictures[REFERENCE]),
            changes={
                label: change(score(scorer, pictures[key], prompts), base[label]) for label, scorer in scorers.items()
            },
        )
        for key in keys
    ]
    return PrecisionsReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        bundle=bundle.manifest.name,
        prompts=len(prompts),
        fp32_scores={
            label: ScoreSpread(round(float(values.mean()), 4), round(float(values.std()), 4))
            for label, values in base.items()
        },
        rows=tuple(rows),
    )


def draw(
    bundle: Bundle, runtimes: Mapping[Key, Runtime], prompts: Sequence[str]
) -> tuple[dict[Key, NDArray[np.uint8]], dict[Key, list[float]]]:
    """Pictures [N, H, W, 3] and milliseconds of each; prompt i has the noise of seed i."""
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


def compare(drawn: NDArray[np.uint8], expected: NDArray[np.uint8]) -> Fidelity:
    """How near pictures are to those that are expected."""
    errors, alike = squared_errors(drawn, expected), structural_similarities(drawn, expected)
    return Fidelity(rounded_psnr(errors.mean()), rounded_psnr(errors.max()), round(float(alike.mean()), 4))


def change(own: Tensor, base: Tensor) -> float:
    """Change of the mean score, in % of the standard deviation."""
    return round(100 * float((own.mean() - base.mean()) / base.std()), 2)
