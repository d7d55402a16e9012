"""The report of `pahi-rt qualify`: which graph, in which runtime and on which device, may stand in for the reference.

It lies in the bundle, listed like any other file, or anywhere else. A row counts only for the very files, the version
of the runtime and the kind of device that it was measured with. Whoever may write the bundle may write a report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from pahi_rt.bundle import Bundle
from pahi_rt.comparison import Interval
from pahi_rt.errors import PahiError, ReportError, RuntimeUnavailable
from pahi_rt.files import slug
from pahi_rt.locations import is_managed
from pahi_rt.machine import cpu_kind, module_version
from pahi_rt.manifest import REPORT, Graph
from pahi_rt.record import Record, parse_json
from pahi_rt.runtimes.base import Description
from pahi_rt.runtimes.cuda import name_gpu
from pahi_rt.schema import IF_ANY
from pahi_rt.terminal import command

FORMAT = 1
MAX_REPORT = 16 << 20
"""Bytes of a report."""
EQUAL_DB = 200.0
"""The PSNR of equal pictures, and the ratio of equal tensors: JSON has no infinity."""
PASS: Literal["pass"] = "pass"
FAIL: Literal["fail"] = "fail"
INCONCLUSIVE: Literal["inconclusive"] = "inconclusive"
Verdict = Literal["pass", "fail", "inconclusive"]
_MODULES = {"openvino": "openvino", "tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""First part of a runtime's name -> the module whose version it reports; ONNX Runtime for all others."""


@dataclass(frozen=True)
class Measure(Record):
    """One measure of a row's pictures, compared with the reference's."""

    value: float
    interval: Interval | None
    """95 % interval over prompts; null where the value itself decides, or one prompt says nothing about others.

    Where the margin is the mean of what is done to the same pictures, the margin plus the interval of the difference.
    """
    margin: float | None
    """The limit; null for what is shown and not judged."""
    direction: Literal["at least", "at most"]
    verdict: Verdict | None
    """Interval wholly inside the margin: pass; wholly outside: fail. null without a margin."""
    reason: str
    """Where the margin comes from."""


@dataclass(frozen=True)
class Pair(Record):
    """A picture that is far from the reference's."""

    prompt: str
    seed: int
    psnr_db: float
    """200 for equal pictures."""

    @property
    def distance(self) -> str:
        """How far it is, in words."""
        return "equal" if self.psnr_db >= EQUAL_DB else f"{self.psnr_db:.1f} dB"


@dataclass(frozen=True)
class Loss(Record):
    """What one tensor has lost."""

    node: str
    operator: str
    tensor: str
    snr_db: float
    """Power of the reference's values over that of the difference; 200 for equal ones, -200 where either is NaN."""
    added: float
    """Noise that the node adds: the power of the difference over the values', less that of its worst input."""

    @property
    def title(self) -> str:
        """The node in words."""
        return f"{self.node or self.tensor} ({self.operator})"


@dataclass(frozen=True)
class Layers(Record):
    """The graph compared tensor by tensor, for one pair."""

    against: str
    tolerance_db: float
    """Least signal-to-noise ratio of a tensor."""
    compared: int
    """Tensors of the same name and shape on both sides."""
    first: Loss | None
    """The first node, in the order of computation, that leaves the tolerance."""
    worst: tuple[Loss, ...]
    """The nodes that add most noise, the worst first."""


@dataclass(frozen=True)
class Row(Record):
    """One graph in one runtime."""

    graph: str
    files: dict[str, str]
    """The graph's file and those of its weights -> sha256."""
    precision: str
    steps: int
    prior: str
    runtime: str
    version: str
    """The runtime's."""
    device: str
    """With the architecture and the instructions that decide how a CPU computes, or the GPU's compute capability."""
    reference: str
    """What it is compared with."""
    pairs: int
    """Pictures; each has the same prompt and the same noise on both sides."""
    prompts: int
    """Distinct prompts among them."""
    verdict: Verdict
    """fail if any measure fails, else inconclusive if any is, else pass."""
    measures: dict[str, Measure]
    missing: dict[str, str]
    """Measure -> why it was not taken."""
    worst: tuple[Pair, ...]
    """The pictures that differ most, the worst first."""
    layers: Layers | None = field(default=None, metadata=IF_ANY)

    @property
    def key(self) -> tuple[str, str, str]:
        """What a later row replaces."""
        return self.graph, self.runtime, self.device


@dataclass(frozen=True)
class Qualification(Record):
    """The content of qualification.json."""

    read_error: ClassVar[type[PahiError]] = ReportError
    read_fix: ClassVar[str] = "move it away, and write it again: pahi-rt qualify BUNDLE"

    format_version: int
    bundle: str
    """The bundle's name."""
    pahi_rt: str
    """The version that wrote it last."""
    rows: tuple[Row, ...]


def parse_report(raw: bytes, where: str) -> Qualification:
    """Read a report; `where` names it in errors. Raises ReportError."""
    if len(raw) > MAX_REPORT:
        raise ReportError(f"{where} has more than {MAX_REPORT} bytes", fix=Qualification.read_fix)
    try:
        data = parse_json(raw, where)
    except PahiError as error:
        raise ReportError(error.what, fix=Qualification.read_fix) from error
    report = Qualification.from_dict(data, where)
    if report.format_version != FORMAT:
        what = f"{where} is a report of format {report.format_version}; this version reads {FORMAT}"
        raise ReportError(what, fix=Qualification.read_fix)
    return report


def read_report(path: Path) -> Qualification:
    """Read a report from a file. Raises ReportError."""
    again = command("pahi-rt", "qualify", "BUNDLE", "-o", path)
    try:
        with path.open("rb") as file:
            return parse_report(file.read(MAX_REPORT + 1), str(path))
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror}", fix=f"write it: {again}") from error
    except ReportError as error:
        raise ReportError(error.what, fix=_replace(path, again)) from error


def find_report(bundle: Bundle) -> Qualification | None:
    """The report inside a bundle; None if it lists none. Raises BundleError, ReportError."""
    if REPORT not in bundle.manifest.files:
        return None
    content = bundle.read(REPORT)
    try:
        return parse_report(content, str(bundle.path / REPORT))
    except ReportError as error:
        raise ReportError(error.what, fix=_replace_inside(bundle)) from error


def _replace_inside(bundle: Bundle) -> str:
    """How to write the report of a bundle anew: in a copy where the bundle itself stays as it is."""
    folder, copy = bundle.path, ""
    if is_managed(folder):
        folder = Path(f"my-{slug(bundle.manifest.name)}")
        copy = f"{command('cp', '-r', bundle.path, folder)} && "
    return copy + _replace(folder / REPORT, command("pahi-rt", "qualify", folder))


def _replace(path: Path, again: str) -> str:
    """How to write a report anew: `qualify` adds to none that it cannot read, and removes none."""
    return f"{command('mv', path, f'{path}.old')} && {again}"


def format_report(report: Qualification) -> str:
    """The report as the text of its file."""
    return json.dumps(report.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def name_device(description: Description) -> str:
    """The device that a runtime describes, with what decides how a CPU computes."""
    device = str(description["device"])
    return f"{device} ({cpu_kind()})" if device.startswith("CPU") else device


def installed_version(runtime: str) -> str | None:
    """The version that a runtime would have here, without loading a graph; None if it is not installed."""
    module = _MODULES.get(runtime) or _MODULES.get(runtime.partition("-")[0], "onnxruntime")
    version = module_version(module)
    return version and version.split("-")[0]


def objection(row: Row, bundle: Bundle, version: str | None, device: str | None = None) -> str | None:
    """Why a row says nothing about the bundle's graph in a runtime of this version on this device; None if it does.

    A version or device of None is not asked about.
    """
    graph = next((graph for graph in bundle.manifest.graphs if graph.file == row.graph), None)
    if graph is None or bundle.graph_files(graph) != row.files:
        return "it is about another hash of the graph or its weights"
    if version is not None and row.version != version:
        return f"it is about {row.runtime} {row.version}, and {version} is installed"
    if device is not None and row.device != device:
        return f"it was measured on {row.device}, and this is {device}"
    return None


def objection_here(row: Row, bundle: Bundle) -> str | None:
    """Why a row does not count on this machine, as far as that shows without loading a graph; None if it does not."""
    version = installed_version(row.runtime)
    found = objection(row, bundle, version, _device_here(row))
    return f"{row.runtime} is not installed here" if found is None and version is None else found


def _device_here(row: Row) -> str:
    """The device that a row's runtime would name here."""
    if row.device.startswith("CPU"):
        return name_device({"device": "CPU"})
    here = name_gpu(row.device.partition(",")[0])
    return here if "," in here or here == row.device else "a machine without an NVIDIA GPU"


def require_pass(bundle: Bundle, graph: Graph, description: Description, reports: Sequence[Qualification]) -> None:
    """Raises RuntimeUnavailable unless a report says that a graph passes in the runtime that `description` is of."""
    runtime, version = str(description["runtime"]), str(description["version"])
    _require(bundle, graph, reports, runtime, version, name_device(description))


def require_chance(bundle: Bundle, graph: Graph, runtime: str | None, reports: Sequence[Qualification]) -> None:
    """The same before anything is loaded, whatever the version and the device; None for any runtime."""
    _require(bundle, graph, reports, runtime, None, None)


def _require(
    bundle: Bundle,
    graph: Graph,
    reports: Sequence[Qualification],
    runtime: str | None,
    version: str | None,
    device: str | None,
) -> None:
    rows = [row for report in reports for row in report.rows if row.graph == graph.file]
    reasons = [_shortcoming(row, bundle, version, device) for row in rows if runtime in (None, row.runtime)]
    if None in reasons:
        return
    told = next((reason for reason in reasons if reason), "there is no report of it")
    what = (
        f"{graph.file} of bundle {bundle.manifest.name!r} is not qualified for {runtime or 'any runtime'} here: {told}"
    )
    raise RuntimeUnavailable(what, fix=suggest(bundle, runtime or "all", graph.precision))


def suggest(bundle: Bundle, runtime: str, precision: str) -> str:
    """The command that qualifies a runtime and a precision of a bundle, for a service that asks for it."""
    words = ("pahi-rt", "qualify", bundle.path, "--runtimes", runtime, "--precisions", precision)
    if is_managed(bundle.path):  # such a bundle stays as it is
        how = f"{command(*words, '-o', 'report.json')}, and serve it with --report report.json"
    else:
        how = command(*words)
    return f"{how}, or use a runtime and a precision that pass"


def _shortcoming(row: Row, bundle: Bundle, version: str | None, device: str | None) -> str | None:
    stale = objection(row, bundle, version, device)
    if stale is not None:
        return f"its report is stale: {stale}"
    return None if row.verdict == PASS else f"its report says {row.verdict}{_because(row.measures, row.verdict)}"


def _because(measures: Mapping[str, Measure], verdict: Verdict) -> str:
    names = [name for name, measure in measures.items() if measure.verdict == verdict]
    return f" ({', '.join(names)})" if names else ""
