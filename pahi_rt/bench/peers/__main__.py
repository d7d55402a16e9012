"""python -m pahi_rt.bench.peers MODEL BUNDLE: one picture with pahi-rt and with others, side by side.

MODEL is a diffusers folder, BUNDLE its export. Each contender is a process of its own, with all cores while it draws:
it takes turns with diffusers eager, picture by picture, prompt and seed new for each, and its ratio is the median of
the pairs' with a 95 % interval by bootstrap. Timed is what a caller waits for, from the prompt to the picture as an
image. A contender that does not work here is listed with its reason. The last line of stdout is the same as JSON.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pahi_rt import PahiError
from pahi_rt.bench import machine
from pahi_rt.bench.limits import measure_limits
from pahi_rt.bench.peers.process import Peer, Process
from pahi_rt.bench.report import add_options, run
from pahi_rt.bench.timing import ratio, spread, take_turns
from pahi_rt.bundle import open_bundle
from pahi_rt.runtimes import TABLE

WARM_UP = 1
RUNTIMES = tuple(entry.name for entry in TABLE if entry.device == "cpu")


def main() -> int:
    args = _parse()
    return run(lambda: measure(args.model, args.bundle, args.only, args.pictures, args.force), print_table, args.output)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="pahi_rt.bench.peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("bundle")
    parser.add_argument("--only", action="append", metavar="TEXT", help="contenders whose name has this in it")
    parser.add_argument("--pictures", type=int, default=10)
    add_options(parser)
    return parser.parse_args()


def contenders(model: Path, bundle: str) -> list[Peer]:
    """All that can be compared, diffusers eager first."""
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


def measure(model: Path, bundle: str, only: Sequence[str] | None, pictures: int, force: bool) -> dict[str, Any]:
    """The whole report. Raises PahiError for a busy machine, and where diffusers eager does not work."""
    busy, environment = machine.check_idle(force), machine.describe()
    if not model.is_dir():
        raise PahiError(f"there is no folder {model}", fix="name the folder that the bundle is of")
    first, *others = contenders(model, bundle)
    chosen = [peer for peer in others if only is None or any(text in peer.name for text in only)]
    with tempfile.TemporaryDirectory() as logs:
        reference = Process(first, Path(logs) / "reference.log")
        try:
            rows = [_race(peer, reference, pictures, Path(logs) / "peer.log") for peer in chosen]
        finally:
            reference.end()
    return {
        "command": machine.command("python", "-m", "pahi_rt.bench.peers"),
        "reference": {"name": first.name, **reference.described},
        "machine": environment,
        "limits": measure_limits(machine.usable_cores()),
        "busy": busy,
        "rows": rows,
    }


def _race(peer: Peer, reference: Process, pictures: int, log: Path) -> dict[str, Any]:
    """One contender's row, or why there is none."""
    try:
        process = Process(peer, log)
    except PahiError as error:
        return {"name": peer.name, "reason": error.what}
    try:
        own, other = take_turns([process.draw, reference.draw], pictures, WARM_UP)
    except PahiError as error:
        if reference.has_ended:
            raise
        return {"name": peer.name, "reason": error.what}
    finally:
        process.end()
    times = {"ms": spread(own), "reference_ms": spread(other), "time_over_reference": ratio(own, other)}
    return {"name": peer.name, **process.described, **times}


def print_table(report: dict[str, Any]) -> None:
    print(f"on {report['machine']['cpu']}; reference: {report['reference']['name']}, {report['reference']['version']}")
    print(f"{'':32}{'ms':>10}{'ref. ms':>10}{'x ref.':>8}  95 %")
    for row in report["rows"]:
        if "reason" in row:
            print(f"{row['name']:32}  {row['reason']}")
            continue
        times = row["time_over_reference"]
        medians = f"{row['ms']['median']:10.1f}{row['reference_ms']['median']:10.1f}{times['median']:8.3f}"
        print(f"{row['name']:32}{medians}  {times['low']:.3f}-{times['high']:.3f}")


if __name__ == "__main__":
    sys.exit(main())
