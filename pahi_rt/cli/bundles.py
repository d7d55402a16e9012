"""Verb `bundles`: list the built-in bundles, and show the card of a bundle."""

from __future__ import annotations

from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import typer

from pahi_rt.assets import DEFAULT
from pahi_rt.cli import messages
from pahi_rt.cli.group import Group
from pahi_rt.cli.options import BundleName, Debug, Json
from pahi_rt.terminal import table

if TYPE_CHECKING:
    from pahi_rt.bundle import Bundle
    from pahi_rt.vocabulary import Vocabulary

app = typer.Typer(
    name="bundles",
    cls=Group,
    help="List the built-in bundles, or show a bundle's card.",
    invoke_without_command=True,
)


@app.callback()
def list_bundles(context: typer.Context, as_json: Json = False, debug: Debug = False) -> None:
    """List the built-in bundles, or show one card."""
    from pahi_rt.bundle import open_bundle
    from pahi_rt.locations import built_in

    if context.invoked_subcommand is not None:
        return
    opened = [open_bundle(name) for name in built_in()]
    if as_json:
        messages.document([summarise(bundle) for bundle in opened])
    elif opened:
        messages.result(*table([("name", "picture", "steps", "size", "summary"), *map(_row, opened)]))
    if opened:
        messages.next_command("bundles", "show", opened[0].manifest.name)
    else:
        messages.note("no bundle is built in; `pahi-rt generate --bundle FOLDER` uses one from elsewhere")


@app.command()
def show(bundle: BundleName, as_json: Json = False, debug: Debug = False) -> None:
    """Print a bundle's card: what it is, what it was trained on, its licence, its limits, and what it can draw."""
    from pahi_rt.bundle import open_bundle
    from pahi_rt.vocabulary import Vocabulary

    opened = open_bundle(bundle)
    vocabulary = Vocabulary.load(opened)
    if as_json:
        categories = _by_category(vocabulary) if vocabulary else None
        styles = list(vocabulary.styles) if vocabulary else None
        messages.document({**summarise(opened), "concepts": categories, "styles": styles})
    else:
        messages.result(*card_lines(opened), *concept_lines(vocabulary))
    example = vocabulary.concepts[0].label if vocabulary and vocabulary.concepts else "a red apple"
    where = [] if bundle == DEFAULT else ["--bundle", bundle]
    messages.next_command("generate", example, *where)


def summarise(bundle: Bundle) -> dict[str, Any]:
    """The facts that a person needs before using a bundle, for JSON."""
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "path": str(bundle.path),
        "width": manifest.image.width,
        "height": manifest.image.height,
        "steps": sorted(bundle.graphs()),
        "priors": bundle.priors,
        "bytes": sum(record.size for record in manifest.files.values()),
        "card": manifest.card.to_dict() if manifest.card else None,
    }


def card_lines(bundle: Bundle) -> list[str]:
    """The card as lines of text. For a bundle without a card, only the facts in its manifest."""
    card, picture = bundle.manifest.card, _row(bundle)
    facts = f"{picture[1]} pixels, {picture[2]} steps, {picture[3]}"
    title = f"{bundle.manifest.name}: {card.summary if card else 'a bundle without a card'}"
    if card is None:
        return [
            title,
            "",
            *messages.paragraph("draws", facts),
            *messages.paragraph("noise", noise_facts(bundle)),
            *messages.paragraph("licence", bundle.manifest.generator.licence),
        ]
    measured = [(name, f"{value:.3g}" if isinstance(value, float) else value) for name, value in card.measured.items()]
    return [
        title,
        "",
        *messages.paragraph("draws", facts),
        *messages.paragraph("noise", noise_facts(bundle)),
        *_items("trained on", card.trained_on),
        *messages.paragraph("licence", card.licence),
        *_items("limits", card.limits),
        *(["measured", *table(measured, indent="  ")] if measured else []),
    ]


def noise_facts(bundle: Bundle) -> str:
    """The priors that the bundle's noise can be drawn from, in a sentence."""
    if not bundle.priors:
        return "standard Gaussian; no learned prior"
    default, *others = bundle.priors
    return f"prior {default} by default; --prior {' or '.join([*others, 'gaussian'])}"


def concept_lines(vocabulary: Vocabulary | None) -> list[str]:
    """The concepts that the model can draw, a paragraph for each category."""
    if vocabulary is None:
        return []
    categories = _by_category(vocabulary)
    styles = f", in the styles {', '.join(vocabulary.styles)}" if vocabulary.styles else ""
    title = f"knows {len(vocabulary.concepts)} concepts{styles}"
    lists = (messages.paragraph(f"  {name} ", ", ".join(labels)) for name, labels in categories.items())
    return ["", title, *chain.from_iterable(lists)]


def _by_category(vocabulary: Vocabulary) -> dict[str, list[str]]:
    ordered = sorted(vocabulary.concepts, key=lambda concept: concept.category)
    return {name: [c.label for c in group] for name, group in groupby(ordered, lambda concept: concept.category)}


def _row(bundle: Bundle) -> tuple[str, str, str, str, str]:
    facts = summarise(bundle)
    steps = " or ".join(map(str, facts["steps"]))
    summary = bundle.manifest.card.summary if bundle.manifest.card else ""
    return facts["name"], f"{facts['width']}x{facts['height']}", steps, messages.megabytes(facts["bytes"]), summary


def _items(label: str, items: tuple[str, ...]) -> list[str]:
    return [line for index, item in enumerate(items) for line in messages.paragraph("" if index else label, item)]
