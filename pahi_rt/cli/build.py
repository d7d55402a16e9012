"""Verb `build`: add plans for NVIDIA's GPUs to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.lists import split_names
from pahi_rt.cli.options import BundleName, Debug, Json

if TYPE_CHECKING:
    from pahi_rt.export.tensorrt import PlanSettings

Capabilities = Annotated[
    str, typer.Option("--compute-capability", metavar="N,N", help="GPUs that tensorrt-rtx builds for: 86 is RTX 30xx.")
]
Batch = Annotated[str, typer.Option(metavar="MIN/OPT/MAX", help="Pictures at once: least, best, most.")]


def build(
    bundle: BundleName,
    flavour: Annotated[
        str, typer.Option("--engine", help="tensorrt-rtx (needs no GPU) or tensorrt (for the GPU here).")
    ],
    capabilities: Capabilities = "",
    batch: Batch = "1/2/4",
    precision: Annotated[str | None, typer.Option(help="Precision to build (default: the bundle's first).")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build TensorRT plans of a bundle's graphs, and put them into the bundle."""
    settings = plan_settings(flavour, capabilities, batch)
    with needs("export"):
        from pahi_rt.export.plans import add_plans
    changed = add_plans(bundle, settings, precision=precision, on_stage=messages.stage)
    if as_json:
        messages.document({"path": str(changed.path), "engines": changed.manifest.to_dict()["engines"]})
    else:
        messages.result(str(changed.path))
    messages.next_command("inspect", bundle, "--verify")


def plan_settings(flavour: str, capabilities: str, batch: str) -> PlanSettings:
    """Read the options. Raises a usage error for a batch that is not three numbers."""
    with needs("export"):
        from pahi_rt.export.tensorrt import AMPERE, PlanSettings
    if capabilities:
        gpus = split_names(capabilities, "--compute-capability")
    else:
        gpus = () if flavour == "tensorrt" else (AMPERE,)
    return PlanSettings(flavour, gpus, parse_batch(batch))


def parse_batch(text: str) -> tuple[int, int, int]:
    """ "1/2/4" -> (1, 2, 4). Raises a usage error for anything else."""
    try:
        least, best, most = (int(number) for number in text.split("/"))
    except ValueError as error:
        what = f"--batch takes three numbers with slashes, such as 1/2/4, not {text!r}"
        raise typer.BadParameter(what) from error
    return least, best, most
