"""Adds plans for NVIDIA's GPUs to a bundle: built from its own graphs, listed in its manifest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pahi_rt.bundle import Bundle, changing, file_record, open_bundle, write_manifest
from pahi_rt.errors import BundleError, OutputError
from pahi_rt.export.stages import OnStage
from pahi_rt.export.tensorrt import PlanSettings, build_plan, check_types
from pahi_rt.export.validation import has_gpu_for, validate_plan
from pahi_rt.files import explain, slug, write_whole
from pahi_rt.locations import is_managed
from pahi_rt.manifest import FileRecord, Graph, Plan
from pahi_rt.runtimes.cuda import Cuda
from pahi_rt.runtimes.tensorrt import require_tensorrt
from pahi_rt.scratch import Scratch, check_unclaimed, claim
from pahi_rt.terminal import command

FOLDER = "engines"
INSTALLED = "installed.json"
"""File in a build's scratch folder that lists the plans being moved into the bundle."""


def add_plans(
    bundle: str | Path | Bundle,
    settings: PlanSettings,
    *,
    precision: str | None = None,
    on_stage: OnStage | None = None,
) -> Bundle:
    """Build a plan of every graph of one precision of a bundle, and list it. A plan of the same name is replaced.

    `precision` is the bundle's default if left out. The bundle stays as it was until all plans are built. Raises
    BundleError for a bundle of the package or of a cache, and whatever `build_plan` raises. Where a GPU that a plan is
    for is here, it is validated, too: raises ParityError if it does not draw what ONNX Runtime draws.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    if is_managed(opened.path):
        what = f"{opened.path} is part of the package or of a cache, and stays as it is"
        raise BundleError(
            what, fix=f"build in a copy: {command('cp', '-r', opened.path, f'my-{slug(opened.manifest.name)}')}"
        )
    version = str(require_tensorrt(settings.flavour).__version__)
    choose_graphs(opened, precision)
    try:
        check_unclaimed(opened.path)
        with claim(opened.path / FOLDER, "build", settle=_settle) as scratch:
            opened = open_bundle(opened.path)  # a build that has just ended has changed it
            plans = [_describe(opened, graph, settings, version) for graph in choose_graphs(opened, precision)]
            _check_names(opened, plans)
            for plan in plans:
                _build(opened, plan, settings, scratch.path, on_stage)
            # Before pahi.json is held: plans may have gigabytes.
            made = {plan.file: file_record(scratch.path / Path(plan.file).name) for plan in plans}
            with changing(opened.path, "build") as now:  # a report may have been listed meanwhile
                _install(now, scratch.path, plans, made)
    except OSError as error:
        raise explain(error, opened.path / FOLDER, "or copy the bundle to where you may write") from error
    return open_bundle(opened.path)


def choose_graphs(bundle: Bundle, precision: str | None) -> list[Graph]:
    """The graphs of one precision. Raises BundleError for a precision that the bundle lacks."""
    wanted = bundle.choose_precision(precision)
    return [graph for graph in bundle.manifest.graphs if graph.precision == wanted]


def _describe(bundle: Bundle, graph: Graph, settings: PlanSettings, version: str) -> Plan:
    # TensorRT proper builds for the GPU that is here.
    capabilities = settings.compute_capabilities or (Cuda().compute_capability,)
    gpus = [f"sm{capability}" for capability in capabilities]
    return Plan(
        file=f"{FOLDER}/{'-'.join([Path(graph.file).stem, settings.flavour, *gpus])}.plan",
        graph=graph.file,
        graph_sha256=bundle.manifest.files[graph.file].sha256,
        runtime=settings.flavour,
        runtime_version=version,
        compute_capabilities=capabilities,
        batch=settings.batch,
    )


def _check_names(bundle: Bundle, plans: Sequence[Plan]) -> None:
    for plan in plans:
        path = bundle.path / plan.file
        if os.path.lexists(path) and plan.file not in bundle.manifest.files:
            raise OutputError(f"{path} is there already, and the bundle does not list it", fix="move it away")


def _build(bundle: Bundle, plan: Plan, settings: PlanSettings, folder: Path, on_stage: OnStage | None) -> None:
    started = time.perf_counter()
    (graph,) = (graph for graph in bundle.manifest.graphs if graph.file == plan.graph)
    path = folder / Path(plan.file).name
    with bundle.opened(graph) as source:
        layers = build_plan(source.path, path, settings)
    if settings.flavour == "tensorrt-rtx":  # TensorRT proper lists its layers in other words
        check_types(layers, graph.precision)
    if on_stage is not None:
        on_stage(f"build {plan.file}", time.perf_counter() - started, path.stat().st_size)
    if has_gpu_for(plan):
        started = time.perf_counter()
        validate_plan(bundle, plan, graph, path)
        if on_stage is not None:
            on_stage(f"compare {plan.file} with ONNX Runtime", time.perf_counter() - started, None)


def _install(bundle: Bundle, folder: Path, plans: Sequence[Plan], made: Mapping[str, FileRecord]) -> None:
    """Unlist old plans, replace the files, then list the new ones.

    An interrupted run then never lists a wrong file: files that the manifest does not list are not used.
    """
    (bundle.path / FOLDER).mkdir(exist_ok=True)
    replaced = {plan.file for plan in plans}
    kept = tuple(plan for plan in bundle.manifest.engines if plan.file not in replaced)
    records = {name: record for name, record in bundle.manifest.files.items() if name not in replaced}
    write_whole(folder / INSTALLED, json.dumps(sorted(replaced)))
    try:
        write_manifest(bundle.path, replace(bundle.manifest, engines=kept, files=records))
        for plan in plans:
            os.replace(folder / Path(plan.file).name, bundle.path / plan.file)
        listed = replace(bundle.manifest, engines=(*kept, *plans), files={**records, **made})
        write_manifest(bundle.path, listed)
    except BaseException:
        _remove_unlisted(bundle.path, folder)
        raise


def _settle(left: Scratch) -> bool:
    _remove_unlisted(left.path.parent, left.path)
    return False


def _remove_unlisted(bundle: Path, folder: Path) -> None:
    """Remove the plans that an interrupted build has moved into the bundle, or was about to replace, but not listed."""
    with suppress(FileNotFoundError):
        installed = json.loads((folder / INSTALLED).read_bytes())
        for name in set(installed) - open_bundle(bundle).manifest.files.keys():
            (bundle / name).unlink(missing_ok=True)
