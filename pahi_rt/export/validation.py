"""Validates a plan on the GPU that it was built for, if that is here: does it draw what ONNX Runtime draws?

Both have the same graph, so the plan has to keep one level where the graph computes in 32 bits. If it draws something
else, `layers` names the first node that leaves its tolerance in the same TensorRT.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pahi_rt.bundle import Bundle, file_record
from pahi_rt.choice import choose
from pahi_rt.errors import PahiError, ParityError, RuntimeUnavailable
from pahi_rt.export.drawing import Pictures
from pahi_rt.export.inputs import Inputs, fixed_inputs, pick_row, split_rows, with_strengths
from pahi_rt.export.layers import compare_layers, find_side
from pahi_rt.export.parity import SAME_ARITHMETIC, Reference, Tolerance, check_sane, compare
from pahi_rt.export.precision import ALL
from pahi_rt.manifest import STRENGTH, Graph, Parity, Plan
from pahi_rt.pictures import squared_errors
from pahi_rt.pipeline import load_tokenizer
from pahi_rt.runtimes import Runtime, load
from pahi_rt.runtimes.cuda import Cuda
from pahi_rt.runtimes.tensorrt import TensorRtRuntime

_FIX = "build it again with another version of TensorRT, or report the model with that of this one"


def has_gpu_for(plan: Plan) -> bool:
    """Whether a GPU that runs the plan is here."""
    try:
        return Cuda().compute_capability in plan.compute_capabilities
    except RuntimeUnavailable:
        return False


def validate_plan(bundle: Bundle, plan: Plan, graph: Graph, built: Path) -> Parity:
    """Compare what the plan in the file `built` draws with what ONNX Runtime draws from its graph.

    Raises ParityError that names the node where they part, if there is one.
    """
    inputs = with_strengths(fixed_inputs(load_tokenizer(bundle), bundle.manifest.image.latent_shape))
    prior, precision = graph.prior, graph.precision
    expected = draw(load(bundle, graph.steps, "onnxruntime", prior=prior, precision=precision), inputs)
    drawn = draw(open_plan(bundle, plan, graph, built), inputs)
    check_sane(plan.file, drawn)
    try:
        return compare(plan.file, drawn, Reference(f"{graph.file} in ONNX Runtime", expected, allowed(precision), _FIX))
    except ParityError as error:
        worst = int(np.argmax(squared_errors(drawn.levels, expected.levels)))
        where = find_layer(bundle, plan.runtime, graph, pick_row(inputs, worst))
        raise ParityError(f"{error.what}; {where}", fix=_FIX) from error


def allowed(precision: str) -> Tolerance:
    """How far a plan may be from its own graph in ONNX Runtime."""
    if ALL[precision].is_32_bit:
        return Tolerance(psnr_db=0.0, levels_within_one=SAME_ARITHMETIC.levels_within_one)
    return Tolerance(psnr_db=ALL[precision].near.psnr_db, levels_within_one=0.0)


def open_plan(bundle: Bundle, plan: Plan, graph: Graph, built: Path) -> Runtime:
    """Load a plan that the bundle does not list yet. Raises RuntimeUnavailable, BundleError."""
    listed = replace(plan, file=built.name)
    files = {**bundle.manifest.files, built.name: file_record(built)}
    alone = Bundle(built.parent, replace(bundle.manifest, engines=(listed,), files=files))
    wanted = {"steps": graph.steps, "prior": graph.prior, "precision": graph.precision}
    return TensorRtRuntime(choose(alone, runtime=plan.runtime, **wanted))  # type: ignore[arg-type]


def draw(runtime: Runtime, inputs: Inputs) -> Pictures:
    """What a runtime draws of each row alone."""
    rows = (runtime.run(row["input_ids"], row["noise"], row[STRENGTH]) for row in split_rows(inputs))
    levels = np.concatenate(list(rows))
    return Pictures(levels.astype(np.float32) / 255, levels)


def find_layer(bundle: Bundle, runtime: str, graph: Graph, row: Inputs) -> str:
    """Where the graph leaves its tolerance in a runtime, in words."""
    try:
        found = compare_layers(bundle, graph, graph, find_side(runtime), row)
    except PahiError as error:
        return f"its layers cannot be compared: {error.what}"
    if found.first is None:
        return "no layer alone leaves its tolerance, so the difference lies in how they are fused"
    return f"first in the node {found.first.title}: {found.first.snr_db:.1f} dB"
