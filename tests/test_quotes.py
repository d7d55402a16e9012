"""Numbers that the README and docs/ quote from reports in their sentences, and pictures that no report draws.

`pahi-rt bench documents` writes tables and plots (tests/bench/test_documents.py); sentences are written by people.
"""

from __future__ import annotations

import gzip
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from pahi_rt.bench.documents import BLOCK, find_documents, find_plots
from pahi_rt.bundle import open_bundle
from pahi_rt.cli import app
from pahi_rt.prior import choose_prior
from pahi_rt.train.recipe import load_recipe
from tests.cli.verbs import parse

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
RAW = "https://raw.githubusercontent.com/pahi-rt/pahi-rt/main/"
"""How the README's pictures begin: it is also read where packages are listed."""
PREVIEW = "pahi_rt/assets/emoji/preview.png"
"""Part of the bundle, which the program that made the model draws."""
EPYC, OLDER = "amd-epyc-2-cores", "amd-epyc-avx2-2-cores"
"""The second one is without AVX-512."""
Json = dict[str, Any]
Quote = Callable[[Json], list[str]]
"""A report -> what a document says of it, word for word."""


def rows(report: Json, group: int = -1) -> dict[str, Json]:
    return {row["name"]: row for row in report["groups"][group]["rows"]}


def wins(row: Json, measure: str) -> list[float]:
    """The rates under each scorer, in percent."""
    return [score[f"{measure}_percent"] for score in row["scores"].values()]


def generator(report: Json) -> list[str]:
    explained = {name: f"{100 * share:.0f} %" for name, share in report["explained_variance"].items()}
    behind = 100 * (report["one_step"]["style_latent"] - report["two_steps"]["style_latent"])
    return [
        f"{report['seeds_per_concept']} of {report['noises']} for each of {report['concepts']} concepts",
        f"The autoencoder alone reaches {report['autoencoder_psnr_db']:.1f} dB.",
        f"the drawing style explains {explained['style']}, the tint {explained['tint']}, both together"
        f" {explained['all']}.",
        f"{behind:.1f} points behind in the style",
    ]


def priors(report: Json) -> list[str]:
    everything, unseen = report["groups"][-1], report["groups"][0]
    best, pahi = rows(report)["best of 4 (4x cost)"], rows(report, 0)["PAHI"]
    independent, same = wins(pahi, "independent_win_rate"), wins(pahi, "same_noise_win_rate")
    combined = report["groups"][-2]
    return [
        f"{everything['prompts']} held-out prompts x {report['seeds']} seeds",
        f"over the {everything['meanings']} concepts and combinations that the prompts mean",
        f"wins {wins(best, 'independent_win_rate')[0]:.0f} % under its judge, {report['judge']},",
        f"{unseen['prompts']} of the prompts are of {unseen['meanings']} concepts that no prior saw: there PAHI wins"
        f" {independent[0]:.1f} and"
        f" {independent[1]:.1f} %, from the same noise {same[0]:.1f} and {same[1]:.1f} %, at a diversity of"
        f" {pahi['diversity_ratio']['value']:.2f}.",
        f"on the {combined['prompts']} new combinations,"
        f" {' and '.join(f'{rate:.1f}' for rate in wins(rows(report, -2)['PAHI'], 'independent_win_rate'))} %",
        f"wins {wins(rows(report)['PAHI'], 'independent_win_rate')[0] / 10:.0f} of 10 pairs of independent noise",
    ]


def told(row: Json) -> tuple[str, str]:
    """The effects under both scorers, and the diversity."""
    effects = " and ".join(f"{score['effect_size']:.2f}" for score in row["scores"].values())
    return effects, f"{row['diversity_ratio']['value']:.2f}"


def held_out(report: Json) -> list[str]:
    (everything, most), (unseen, some), (combined, few) = (told(rows(report, group)["PAHI"]) for group in (-1, 0, -2))
    return [
        f"it has {everything} sd at a diversity of {most}, on those of concepts that no prior saw {unseen} at {some},"
        f" and on new combinations {combined} at {few}",
    ]


def expected_effect(report: Json) -> list[str]:
    row = rows(report)["PAHI"]
    least, most = sorted(score["effect_size"] for score in row["scores"].values())
    independent, same = (wins(row, f"{noise}_win_rate")[0] / 10 for noise in ("independent", "same_noise"))
    return [
        f"brought {least:.2f} to {most:.2f} standard deviations, and {independent:.0f} wins of 10 against other noise"
        f" and {same:.0f} against the same"
    ]


def speed(report: Json) -> list[str]:
    picture, start = report["one_step_ms"]["median"], report["cold_start_ms"]["median"] / 1000
    return [
        f"draws in {picture:.1f} ms on two cores of an AMD EPYC without AVX-512, and `pahi-rt generate` takes"
        f" {start:.2f} s from start to exit"
    ]


def peers(report: Json) -> list[str]:
    times = {row["name"]: row["time_over_reference"]["median"] for row in report["rows"] if "openvino" in row["name"]}
    fp32, int8 = (times[f"pahi-rt {precision} openvino"] for precision in ("fp32", "int8"))
    return [
        f"takes {fp32:.2f} of the time that diffusers takes in PyTorch: with OpenVINO, in 32 bits. In int8 it takes"
        f" {int8:.2f}, but"
    ]


def cost(report: Json) -> list[str]:
    (row,) = (row for row in report["runtimes"][0]["rows"] if row["row"] == "PAHI, 1 step")
    return [f"The embedded PAHI adds {100 * (row['time_over_one_step']['median'] - 1):.1f} % to the time of a picture"]


def evidence(report: Json) -> list[str]:
    row = rows(report)["PAHI"]
    trained, other = wins(row, "independent_win_rate")
    return [
        f"wins {trained:.1f} % of comparisons with the Gaussian under the scorer that trained it,"
        f" and {other:.1f} % under another one",
        f"diversity ({row['diversity_ratio']['value']:.2f} of the Gaussian's here)",
    ]


def overload(report: Json) -> list[str]:
    drawn_per_s = report["drawn"] / len(report["moments"])
    assert 2 <= report["offered_per_s"] / drawn_per_s < 2.5 and report["lost"] == 0
    return [
        f"Asked for {report['offered_per_s']:.0f} pictures a second",
        f"drew {report['drawn']:,}, refused {report['refused']:,} requests with 429, and lost none",
    ]


def frontier_of_unseen(report: Json) -> list[str]:
    (much, narrow), (little, wide) = (told(rows(report, 0)[run]) for run in ("pahi-0.005", "pahi-0.02"))
    return [
        f"On the {report['groups'][0]['prompts']} prompts of concepts that no prior saw, 0.005 has {much} sd at a"
        f" diversity of {narrow}, and 0.02 has {little} at {wide}."
    ]


def frontier(report: Json) -> list[str]:
    """The runs, called pahi-0.02 by their KL weight, or "PAHI, seed 1"."""
    return [_run_line(row) for name, row in rows(report).items() if re.match("(pa)?hi[-,]", name.lower())]


def _run_line(row: Json) -> str:
    kind, which = re.split("-|, ", row["name"])
    is_older = "win_rate_percent" in row["scores"]["emoji-a"]
    measures = "independent_win_rate", "win_rate" if is_older else "same_noise_win_rate"
    independent, same = ("{:.1f}, {:.1f} %".format(*wins(row, measure)) for measure in measures)
    effects = (f"{score['effect_size']:.2f}" for score in row["scores"].values())
    cells = (f"{kind.upper()}, {which}", f"{row['kl_nats']:.1f}", *effects, independent, same)
    return f"| {' | '.join(cells)} | {row['diversity_ratio']['value']:.2f} |"


def redness(report: Json) -> list[str]:
    row = rows(report)["PAHI"]
    effects = [score["effect_size"] for score in row["scores"].values()]
    cells = [f"{effect:+.2f} sd, {rate:.1f} %" for effect, rate in zip(effects, wins(row, "win_rate"), strict=True)]
    cells[0] = cells[0].replace(", ", ", wins ")
    ratios = [f"{row[ratio]['value']:.2f}" for ratio in ("diversity_ratio", "sharpness_ratio")]
    nats = f"{row['kl_nats']:,.1f}" if row["kl_nats"] < 100 else f"{row['kl_nats']:,.0f}"
    return [f"| {' | '.join([*cells, *ratios])} | {nats} nats |"]


def ceiling(report: Json) -> list[str]:
    scorers = report["scorers"].values()
    percent, effect, samples = (lambda x: f"{100 * x:.0f}"), (lambda x: f"{x:.2f}"), (lambda x: f"{x:,.0f}")

    def cells(name: str, estimates: Sequence[Json], form: Callable[[float], str], unit: str = "") -> str:
        shown = []
        for estimate in estimates:
            ends = " to ".join(map(form, estimate["interval"] or ()))
            shown.append(f"{form(estimate['value'])}{unit}" + f" ({ends})" * bool(ends))
        return f"| {name} | {' | '.join(shown)} |"

    under = {pair["under"]: pair for pair in report["agreements"]}
    cosine = report["agreements"][0]["linear_cosine"]
    return [
        f"{report['prompts']} test prompts of as many concepts x {report['pictures']} pictures",
        cells(
            "share of a prompt's variance that is odd in the noise", [s["odd_share"] for s in scorers], percent, " %"
        ),
        cells("linear, of each prompt's own: PAHI's", [s["linear_share"] for s in scorers], percent, " %"),
        cells("linear, the same for all prompts: HI's", [s["shared_share"] for s in scorers], tenths, " %"),
        cells("PAHI's effect at 1 nat, at most", [s["ceiling"]["pahi"] for s in scorers], effect),
        cells("HI's effect at 1 nat, at most", [s["ceiling"]["hi"] for s in scorers], effect),
        cells("PAHI's, trained on the other scorer", [under[s]["ceiling_under"] for s in report["scorers"]], effect),
        *(
            cells(f"samples of a prompt, {kind}", [s["samples"][kind]["pahi"] for s in scorers], samples)
            for kind in ("pathwise", "clipped", "score function")
        ),
        f"{percent(cosine['value'])} % (cosine of the linear parts; {' to '.join(map(percent, cosine['interval']))})",
    ]


def scorers(report: Json) -> list[str]:
    agreement, networks = report["agreement"], [report[name] for name in ("emoji-a", "emoji-b")]
    styles = (f"{100 * network['style_preferences_in_prompt_std']['generated_share']:.0f}" for network in networks)

    def cells(name: str, shown: Iterable[str]) -> str:
        return f"| {name} | {' | '.join(shown)} |"

    return [
        *(
            cells(name, (f"{100 * network['pair_accuracy'][kind]:.1f} %" for network in networks))
            for kind, name in PAIRS.items()
        ),
        *(
            cells(
                f"mean score moved by: {change}",
                (f"{n['shift_by_harmless_changes_in_prompt_std'][change]:+.3f} sd" for n in networks),
            )
            for change in networks[0]["shift_by_harmless_changes_in_prompt_std"]
        ),
        f"the drawing style explains {' and '.join(styles)} %",
        f"agree with a correlation of {agreement['pictures']:.2f}, within a style of"
        f" {agreement['pictures_of_a_style']:.2f}.",
    ]


PAIRS = {
    "real": "a drawing through the autoencoder over a generated picture",
    "match": "a picture under its own prompt over one under another",
    "clean": "a picture over the same one damaged",
    "sample": "of two generated pictures in one style, the one nearer to the drawing",
}


def tenths(share: float) -> str:
    return f"{100 * share:.1f}"


QUOTES: list[tuple[str, str, Quote]] = [
    ("README.md", f"{OLDER}/emoji-latency", speed),
    ("README.md", f"{EPYC}/sd-turbo-peers", peers),
    ("README.md", f"{OLDER}/emoji-table2", cost),
    ("README.md", "emoji-priors", evidence),
    ("README.md", "serve-load", overload),
    ("docs/emoji.md", "emoji-generator", generator),
    ("docs/emoji.md", "emoji-priors", priors),
    ("docs/training.md", "emoji-priors", expected_effect),
    ("docs/experiments.md", "emoji-priors", held_out),
    ("emoji_model/README.md", "emoji-scorers", scorers),
    ("docs/experiments.md", "emoji-356-frontier", frontier),
    ("docs/experiments.md", "emoji-frontier", frontier),
    ("docs/experiments.md", "emoji-frontier", frontier_of_unseen),
    ("docs/experiments.md", "emoji-seeds", frontier),
    ("docs/experiments.md", "emoji-356-ceiling", ceiling),
    ("docs/experiments.md", "emoji-ceiling", ceiling),
    ("docs/experiments.md", "emoji-356-redness", redness),
    ("docs/experiments.md", "emoji-356-redness-without-kl", redness),
]


def read(document: str) -> str:
    """The document on one line."""
    return " ".join((ROOT / document).read_text(encoding="utf-8").split())


@pytest.mark.parametrize(("document", "report", "quote"), QUOTES)
def test_a_document_quotes_what_the_report_holds(document: str, report: str, quote: Quote) -> None:
    text = read(document)
    expected = quote(json.loads((RESULTS / f"{report}.json").read_bytes()))
    assert [words for words in expected if words not in text] == []


@pytest.mark.parametrize("document", find_documents(ROOT), ids=lambda path: path.name)
def test_a_report_that_a_document_names_in_its_sentences_is_quoted_above(document: Path) -> None:
    prose = BLOCK.sub("", document.read_text(encoding="utf-8"))
    named = set(re.findall(r"`bench/results/(\S+)\.json`", prose))
    quoted = {report for place, report, _ in QUOTES if ROOT / place == document}
    assert named <= quoted


def test_every_picture_is_drawn_from_a_report_or_tested_here() -> None:
    pictures = set((ROOT / "docs").rglob("*.png"))
    recordings = set((ROOT / "docs").rglob("*.svg"))  # by tools/record.py, of what differs from run to run
    assert {path.name for path in pictures} == {"pairs.png", "redness.png", "playground.png"}
    sheet = RESULTS.resolve() / "emoji-composition.png"  # by the program that made the model
    for document in find_documents(ROOT):
        text = document.read_text(encoding="utf-8")
        links = re.findall(r"^!\[.*\]\((\S+)\)$", text, re.MULTILINE)
        shown = {(document.parent / link.replace(RAW, f"{ROOT}/")).resolve() for link in links}
        assert shown <= pictures | recordings | {ROOT / PREVIEW, sheet} | {
            plot.resolve() for plot, _ in find_plots(text, ROOT)
        }


def test_the_pairs_are_what_the_embedded_bundle_draws(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bench", "pairs", "-o", str(tmp_path / "pairs.png")])
    assert result.exit_code == 0, result.output
    shown, drawn = (
        np.asarray(Image.open(folder / "pairs.png").convert("RGB"), int) for folder in (ROOT / "docs", tmp_path)
    )
    # Another processor may round to the next level, and another Pillow may draw letters a little differently.
    assert shown.shape == drawn.shape
    assert np.mean(abs(shown - drawn) > 1) < 0.005


def test_the_graphs_that_ship_draw_what_pytorch_draws() -> None:
    trained = [parity for parity in open_bundle("emoji").manifest.parity if parity.against.endswith("as trained")]
    least = min(parity.psnr_db for parity in trained)
    assert f"with a PSNR of {math.floor(least)} dB or more" in read("README.md")


def test_the_playground_tells_the_size_of_the_model() -> None:
    """What the page downloads of the bundle for its first picture, packed as a site packs it."""
    bundle = open_bundle("emoji")
    graph = bundle.graphs(choose_prior(bundle))[1]
    files = [graph.file, *graph.weights, bundle.manifest.tokenizer.file, str(bundle.manifest.vocabulary)]
    megabytes = sum(len(gzip.compress((bundle.path / name).read_bytes(), 6)) for name in files) / 1e6
    initializers = onnx.load(bundle.path / graph.file, load_external_data=False).graph.initializer
    parameters = sum(math.prod(tensor.dims) for tensor in initializers) / 1e6
    expected = f"The model has {parameters:.0f} million parameters and takes {megabytes:.0f} MB;"
    assert expected in read("docs/playground.md")


def test_the_training_that_drew_redness_can_be_begun() -> None:
    """Its prior is not kept."""
    page = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```\n(pahi-rt train .*?)^```", page, re.MULTILINE | re.DOTALL)
    context = parse(shlex.split(block.replace("\\\n", " "))[1:])
    recipe = load_recipe(context.params["recipe"], context.params["settings"])
    assert (list(recipe.scorers.train), list(recipe.scorers.evaluation)) == (["redness"], ["redness"])
    assert recipe.optimisation.max_steps % recipe.optimisation.evaluate_every == 0  # that is when samples/ is drawn
