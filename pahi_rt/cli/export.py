"""Verb `export`: turn a one-step diffusers pipeline into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pahi_rt.cli import messages
from pahi_rt.cli.extras import needs
from pahi_rt.cli.lists import split_names, split_numbers
from pahi_rt.cli.options import Debug, Json, NameArgument, NameOption, PathOption
from pahi_rt.manifest import PRECISIONS


def export(
    model: Annotated[str, NameArgument(metavar="MODEL", help="A diffusers pipeline: a folder or a hub id.")],
    output: Annotated[Path, PathOption("-o", "--output", metavar="BUNDLE", help="The folder to write.")],
    steps: Annotated[str, typer.Option(help="Numbers of denoising steps; each gets a graph.")] = "1,2",
    prior: Annotated[
        list[Path] | None,
        PathOption(
            metavar="RUN|FILE", help="A prior of `pahi-rt train` to put into the bundle; at most one of each kind."
        ),
    ] = None,
    scorer: Annotated[
        list[str] | None,
        NameOption(
            metavar="FOLDER|SPEC",
            help="A scorer for --candidates: a folder of `pahi-rt export-scorer`, or a kind.",
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        NameOption(metavar="MODEL", help="An autoencoder to use in place of the model's own."),
    ] = None,
    loras: Annotated[
        list[str] | None,
        NameOption("--lora", metavar="FILE[:SCALE]", help="A LoRA to fuse into the model; several add up."),
    ] = None,
    variant: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which weights to read if the model has several, such as fp16.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name (default: the folder's).")] = None,
    precision: Annotated[
        str, typer.Option(help=f"One or more of {', '.join(PRECISIONS)}; the first is the bundle's default.")
    ] = "fp32",
    calibration: Annotated[
        str | None,
        NameOption(metavar="PROMPTS", help="Prompts to calibrate int8 with: a file or a name, as for `train`."),
    ] = None,
    min_psnr: Annotated[
        float | None,
        typer.Option(
            metavar="DB", help="How near to fp32 graphs of fewer bits must come (w16, fp16: 40; w8, int8: 30)."
        ),
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Height of the pictures in pixels (default: as the model was trained).")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="Width of the pictures in pixels (default: as the model was trained).")
    ] = None,
    opset: Annotated[int, typer.Option(help="ONNX operator set: 20 for every runtime, 23 for fewer nodes.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fuse a one-step model into one graph per number of steps and prior, and check it against PyTorch."""
    with needs("export"):
        from pahi_rt.export.exporter import export_bundle
    bundle = export_bundle(
        model,
        output,
        name=name or output.resolve().name,
        steps=split_numbers(steps, "--steps"),
        precisions=split_names(precision, "--precision"),
        priors=prior or (),
        scorers=scorer or (),
        decoder=decoder,
        variant=variant,
        loras=loras or (),
        size=parse_size(height, width),
        opset=opset,
        calibration=calibration,
        min_psnr=min_psnr,
        overwrite=force,
        on_stage=messages.stage,
    )
    if as_json:
        messages.document({"path": str(bundle.path), **bundle.manifest.to_dict()})
    else:
        messages.result(str(bundle.path))
    messages.next_command("inspect", str(output), "--verify")


def parse_size(height: int | None, width: int | None) -> tuple[int, int] | None:
    """Height and width in pixels, or None. Raises a usage error for one without the other."""
    if height is None and width is None:
        return None
    if height is None or width is None:
        raise typer.BadParameter("--height and --width go together")
    return height, width
