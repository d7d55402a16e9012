"""pahi-rt bench peers MODEL BUNDLE: one picture with pahi-rt and with other programs, side by side.

MODEL is a diffusers folder, BUNDLE its export. Each contender is a process of its own and has all cores while it draws.
It takes turns with diffusers eager, picture by picture, with a new prompt and seed for each; its ratio is the median of
the ratios pair by pair, with a 95 % interval by bootstrap. The timed region is what a caller waits for, from the prompt
to the picture as an image. A contender that does not work here is listed with its reason.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pahi_rt import PahiError
from pahi_rt.bench import machine
from pahi_rt.bench.limits import measure_limits
from pahi_rt.bench.peers.process import Peer, Process
from pahi_rt.bench.reports.peers import PeerDescription, PeerFailure, PeerRow, PeersReport
from pahi_rt.bench.timing import race, ratio, spread
from pahi_rt.bundle import open_bundle
from pahi_rt.machine import usable_cores
from pahi_rt.runtimes import TABLE

WARM_UP = 1
RUNTIMES = tuple(entry.name for entry in TABLE if entry.device == "cpu")


def contenders(model: Path, bundle: str) -> list[Peer]:
    """All programs that can be compared, diffusers eager first."""
    folder = str(model.resolve())
    others = [Peer(f"diffusers {mode}", "diffusers_pipeline.py", (folder, mode)) for mode in ("eager", "compile")]
    others.append(Peer("optimum-onnx fp32", "optimum_onnx_pipeline.py", (folder,), "optimum_onnx.txt"))
    others += [
        Peer(f"OpenVINO GenAI {name}", "openvino_genai_pipeline.py", (folder, hint), "openvino_genai.txt")
        for name, hint in (("fp32", "f32"), ("bf16", "bf16"))
    ]
    others += [
        Peer(f"stable-diffusion.cpp {w}", "stable_diffusion_cpp_pipeline.py", (folder, w), "stable_diffusion_cpp.txt")
        for w in ("f32", "q8_0")
    ]
    ours = [
        Peer(f"pahi-rt {precision} {runtime}", "pahi_rt_pipeline.py", (bundle, runtime, precision))
        for precision in open_bundle(bundle).precisions
        for runtime in RUNTIMES
        if not (runtime == "openvino-bf16" and precision != "fp32")
    ]
    return others + ours


def measure(model: Path, bundle: str, only: Sequence[str] | None, pictures: int, force: bool) -> PeersReport:
    """The whole report. Raises PahiError for a busy machine, and where diffusers eager does not work."""
    busy, environment = machine.check_idle(force), machine.describe()
    if not model.is_dir():
        raise PahiError(f"there is no folder {model}", fix="name the folder that the bundle was exported from")
    first, *others = contenders(model, bundle)
    chosen = [peer for peer in others if only is None or any(text in peer.name for text in only)]
    with tempfile.TemporaryDirectory() as logs:
        reference = Process(first, Path(logs) / "reference.log")
        try:
            rows = [_race(peer, reference, pictures, Path(logs) / "peer.log") for peer in chosen]
        finally:
            reference.end()
    return PeersReport(
        command=machine.command(),
        machine=environment,
        busy=busy,
        reference=PeerDescription(first.name, **reference.described),
        limits=measure_limits(usable_cores()),
        rows=tuple(rows),
    )


def _race(peer: Peer, reference: Process, pictures: int, log: Path) -> PeerRow | PeerFailure:
    """One contender's row, or why there is none."""
    try:
        process = Process(peer, log)
    except PahiError as error:
        return PeerFailure(peer.name, error.what)
    try:
        taken = race(process.draw, reference.draw, pictures, WARM_UP)
    except PahiError as error:
        if reference.has_ended:
            raise
        return PeerFailure(peer.name, error.what)
    finally:
        process.end()
    return PeerRow(
        name=peer.name,
        **process.described,
        ms=spread(taken.own),
        reference_ms=spread(taken.reference),
        time_over_reference=ratio(taken.own, taken.reference),
    )
