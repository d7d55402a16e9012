"""The report as one HTML page: verdicts, measures, and the worst pictures beside the reference's. It loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pahi_rt.errors import OutputError
from pahi_rt.files import explain, write_whole
from pahi_rt.qualification import Layers, Measure
from pahi_rt.qualify.qualification import Examined

AMPLIFIED = 8
"""How many times the difference of two pictures is shown."""
LARGEST = 256
"""Pixels of a side of a picture on the page."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f23; --soft: #5a6270; --line: #d9dde3; --card: #f6f7f9; --page: #fff;
  --pass: #1a7f37; --fail: #c0232c; --inconclusive: #8a5a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #a2abb8; --line: #363c45; --card: #1d2126;
  --page: #14171a; --pass: #4cc26b; --fail: #ff7a7f; --inconclusive: #e3b04b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 16px 64px; max-width: 1120px; color: var(--ink); background: var(--page);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 4px; }
h2 { font-size: 1.15rem; margin: 0; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 20px 0 6px; }
p { margin: 4px 0; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
section { border: 1px solid var(--line); border-radius: 10px; padding: 16px; margin: 20px 0; background: var(--card); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; border-top: 0; }
.verdict { font-weight: 700; white-space: nowrap; }
.pass { color: var(--pass); } .fail { color: var(--fail); } .inconclusive { color: var(--inconclusive); }
.worst { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr)); gap: 16px; }
figure { margin: 0; }
.trio { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; }
.trio img { width: 100%; height: auto; border-radius: 6px; display: block; image-rendering: auto; }
.trio span { display: block; font-size: .8rem; color: var(--soft); }
@media (max-width: 640px) {
  .measures thead { display: none; }
  .measures tr { display: grid; grid-template-columns: 7rem 1fr; padding: 8px 0; border-top: 1px solid var(--line); }
  .measures td { border: 0; padding: 1px 8px 1px 0; overflow-wrap: anywhere; }
  .measures .wide { grid-column: 2; }
  .measures .name { font-weight: 600; }
}
"""
_HEAD = "<thead><tr><th>verdict</th><th>measure</th><th>value</th><th>95 % interval</th><th>margin</th></tr></thead>"


def write_page(path: Path, bundle: str, examined: Sequence[Examined]) -> None:
    """Write the page. Raises OutputError."""
    try:
        write_whole(path, render(bundle, examined))
    except OSError as error:
        raise explain(error, path) from error


def render(bundle: str, examined: Sequence[Examined]) -> str:
    """The page of some rows, as HTML."""
    rows = [one.row for one in examined]
    if not rows:
        raise OutputError("there is no row to show", fix="name a runtime that draws here: pahi-rt doctor lists them")
    title = f"Qualification of {escape(bundle)}"
    summary = "".join(
        f"<tr><td>{_badge(row.verdict)}</td><td>{escape(row.graph)}</td><td>{escape(row.precision)}</td>"
        f"<td>{escape(row.runtime)} {escape(row.version)}</td></tr>"
        for row in rows
    )
    head = "<tr><th>verdict</th><th>graph</th><th>precision</th><th>runtime</th></tr>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<p class="soft">{rows[0].pairs} pairs of {rows[0].prompts} prompts, the same noise on both sides, against'
        f" {escape(rows[0].reference.removesuffix(', itself'))}. A measure passes if its whole 95 % interval is inside"
        " its margin, and fails if all of it is outside.</p>\n"
        f'<div class="scroll"><table>{head}{summary}</table></div>\n'
        + "\n".join(map(_section, examined))
        + "\n</body>\n</html>\n"
    )


def _section(one: Examined) -> str:
    row = one.row
    title = f"{_badge(row.verdict)} {escape(row.graph)} in {escape(row.runtime)} {escape(row.version)}"
    captions = [f"{pair.prompt}, seed {pair.seed}: {pair.distance}" for pair in row.worst]
    trios = map(_trio, captions, one.expected, one.drawn)
    missing = (f'<p class="soft">not measured: {escape(k)}: {escape(v)}</p>' for k, v in row.missing.items())
    return "\n".join(
        [
            f"<section>\n<h2>{title}</h2>",
            f'<p class="soft">{escape(row.device)}, against {escape(row.reference)}</p>',
            f'<table class="measures">{_HEAD}<tbody>',
            *(_measure(*item) for item in row.measures.items()),
            "</tbody></table>",
            *missing,
            f'<h3>The worst pictures</h3>\n<div class="worst">{"".join(trios)}</div>',
            f"{_layers(row.layers)}</section>",
        ]
    )


def _measure(name: str, measure: Measure) -> str:
    interval = "" if measure.interval is None else f"{measure.interval[0]:.4g} to {measure.interval[1]:.4g}"
    limit = "" if measure.margin is None else f"{measure.direction} {measure.margin:.4g}: "
    verdict = _badge(measure.verdict) if measure.verdict else '<span class="soft">shown</span>'
    return (
        f'<tr><td>{verdict}</td><td class="name">{escape(name.replace("_", " "))}</td>'
        f'<td class="wide">{measure.value:.4g}</td><td class="wide">{interval}</td>'
        f'<td class="wide soft">{limit}{escape(measure.reason)}</td></tr>'
    )


def _badge(verdict: str) -> str:
    return f'<span class="verdict {verdict}">{verdict}</span>'


def _trio(caption: str, expected: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> str:
    difference = np.abs(drawn.astype(np.int16) - expected) * AMPLIFIED
    three = {
        "reference": expected,
        "drawn": drawn,
        f"difference x {AMPLIFIED}": np.clip(difference, 0, 255).astype(np.uint8),
    }
    cells = "".join(
        f'<div><img src="{_data(picture)}" alt="{escape(name)}: {escape(caption)}"><span>{name}</span></div>'
        for name, picture in three.items()
    )
    return f'<figure><div class="trio">{cells}</div><figcaption>{escape(caption)}</figcaption></figure>'


def _data(picture: NDArray[np.uint8]) -> str:
    image, buffer = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((LARGEST, LARGEST))
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _layers(layers: Layers | None) -> str:
    if layers is None:
        return ""
    first = "No tensor leaves" if layers.first is None else f"{escape(layers.first.title)} is the first to leave"
    rows = "".join(
        f"<tr><td>{escape(loss.title)}</td><td>{loss.snr_db:.1f} dB</td><td>{loss.added:.1e}</td></tr>"
        for loss in layers.worst
    )
    head = "<tr><th>node</th><th>signal to noise</th><th>noise added, of the signal's power</th></tr>"
    return (
        f'<h3>Layer by layer</h3>\n<p class="soft">{layers.compared} tensors of the worst pair, against'
        f" {escape(layers.against)}. {first} the tolerance of {layers.tolerance_db:g} dB.</p>"
        f'<div class="scroll"><table>{head}{rows}</table></div>\n'
    )
