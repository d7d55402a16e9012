"""A bundle as a static web site: the playground's page, ONNX Runtime for the web, and the bundle's graphs.

    index.html, *.js, style.css   the page, as `pahi-rt serve` shows it; backend.js alone differs
    browser/                      what draws in the browser: noise, tokens, the Worker
    lib/                          onnxruntime-web and @huggingface/tokenizers
    model/                        the bundle's graphs, weights, tokenizer and vocabulary
    site.json                     what the page needs to know of them, and the sha256 of every file

Large files are compressed here, since few hosts compress what they do not know. The page unpacks them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pahi_rt.bundle import Bundle, open_bundle
from pahi_rt.errors import BundleError, OutputError
from pahi_rt.export.reveal import Kind, building
from pahi_rt.export.web.contents import ENGINES, SITE, Files, make_files
from pahi_rt.export.web.single import single_page
from pahi_rt.files import explain, write_whole
from pahi_rt.manifest import Graph, is_safe_name
from pahi_rt.pipeline import check_noise_recipe

LARGEST = 2**31 - 2**20
"""Bytes that one file of a graph may have: browsers hold it in one ArrayBuffer."""
LARGEST_IN_PAGE = 400 * 10**6
"""The same of a packed file in a page of one file: it is text in base64, and V8's strings end at 2^29 characters."""


@dataclass(frozen=True)
class Site:
    """A site that has been written."""

    path: Path
    wire_bytes: Mapping[str, int]
    """Engine -> bytes that the first picture takes over the wire, where the server compresses text."""
    files: Files = field(repr=False)
    """What it is made of, also where they were written into one page."""


def write_site(
    source: str | Path,
    output: str | Path,
    *,
    precision: str | None = None,
    single_file: bool = False,
    isolate: bool = False,
    packages: Path | None = None,
    overwrite: bool = False,
) -> Site:
    """Write the site of a bundle into the folder `output`, or with `single_file` into the .html file `output`.

    `isolate` lets a service worker isolate the page, so that it draws with threads on any host. `packages` is a folder
    with npm's tarballs. Raises BundleError for what the bundle lacks, OutputError if `output` cannot be written, and
    PahiError if a package cannot be had.
    """
    bundle, output = open_bundle(source), Path(output)
    check_noise_recipe(bundle)
    graphs = _choose_graphs(bundle, precision)
    if single_file:
        _check_page(output, overwrite)
        files = make_files(bundle, graphs, ["wasm"], packages, isolate=False)
        _check_sizes(files)
        page = single_page(files, SITE)
        _write_page(output, page)
        return Site(output, {"wasm": len(gzip.compress(page))}, files)
    with building(output, SITE_KIND, overwrite=overwrite) as scratch:
        files = make_files(bundle, graphs, list(ENGINES), packages, isolate=isolate)
        for name, content in files.items():
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            (scratch / name).write_bytes(content)
    return Site(output, {engine: wire_bytes(files, engine) for engine in ENGINES}, files)


def wire_bytes(files: Files, engine: str) -> int:
    """Bytes over the wire until the first picture: text as a server compresses it, all else as it lies there."""
    site = json.loads(files[SITE])
    first, used = site["check"], site["engines"][engine]
    graph = next(g for g in site["graphs"] if (g["steps"], g["prior"]) == (first["steps"], first["prior"]))
    needed = {*used.values(), graph["file"], *(weights["file"] for weights in graph["weights"])}
    needed |= {site["tokenizer"]["file"], site["vocabulary"]} | ({first["picture"]} if engine != "wasm" else set())
    page = {name for name in files if not name.startswith(("lib/ort.", "model/")) and name != "licences.txt"}
    return sum(_as_served(name, files[name]) for name in page | (needed - {None}))


def _as_served(name: str, content: bytes) -> int:
    return len(gzip.compress(content)) if name.endswith((".html", ".css", ".js", ".json", ".txt")) else len(content)


def list_files(folder: Path) -> list[str]:
    """The site's own files, site.json last. Raises BundleError if `folder` is not a site."""
    try:
        names = list(json.loads((folder / SITE).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"it has no readable {SITE}", fix="choose another output") from error
    if not all(isinstance(name, str) and is_safe_name(name) for name in names):
        raise BundleError(f"its {SITE} names files that are elsewhere", fix="choose another output")
    return [*names, SITE]


SITE_KIND = Kind("web site", "embed", list_files)


def _choose_graphs(bundle: Bundle, precision: str | None) -> list[Graph]:
    """The bundle's graphs in one precision. Raises BundleError for one that it lacks, or that is too large."""
    wanted = bundle.choose_precision(precision)
    graphs = [graph for graph in bundle.manifest.graphs if graph.precision == wanted and graph.steps <= 2]
    if not graphs:
        raise BundleError("it has no graph of one or two steps, which a browser draws", fix="export with --steps 1")
    for name in {name for graph in graphs for name in (graph.file, *graph.weights)}:
        if bundle.manifest.files[name].size > LARGEST:
            what = f"{name} is larger than the 2 GB that a browser holds in one piece"
            raise BundleError(what, fix="export with fewer bits (--precision w8), and choose it here with --precision")
    return graphs


def _check_sizes(files: Files) -> None:
    for name, content in files.items():
        if len(content) > LARGEST_IN_PAGE:
            what = f"{name} is larger than the 400 MB that a browser reads from a page of one file"
            raise BundleError(what, fix="leave out --single-file, or export with fewer bits (--precision w8)")


def _check_page(output: Path, overwrite: bool) -> None:
    if output.suffix != ".html":
        raise OutputError(f"{output} does not end in .html", fix=f"use -o {output.with_suffix('.html')}")
    if output.exists() and not overwrite:
        raise OutputError(f"{output} exists already", fix="choose another output, or overwrite the file (--force)")


def _write_page(output: Path, page: bytes) -> None:
    try:
        write_whole(output, page)
    except OSError as error:
        raise explain(error, output) from error
