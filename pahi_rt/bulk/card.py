"""The dataset card: README.md of a run's folder, from which Hugging Face `datasets` learns how to load it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from pahi_rt.bulk.encode import ENDINGS
from pahi_rt.bulk.layout import CARD
from pahi_rt.bulk.record import RunRecord
from pahi_rt.bulk.settings import SCORE, Settings
from pahi_rt.bulk.store import Store

_TYPES = {"string": "string", "large_string": "large_string", "bool": "bool", "double": "float64", "float": "float32"}
"""Arrow type -> the name that `datasets` has for it; those of whole numbers are the same."""
_FACTS = {
    "key": "string",
    "id": "string",
    "caption": "string",
    "seed": "uint64",
    "sha256": "string",
    "pixels_sha256": "string",
    "width": "int32",
    "height": "int32",
    "truncated": "bool",
}
_SEAL = "<!-- `pahi-rt bulk` keeps this page up to date as long as nobody changes it. sha256: "
_STATUS = {"status": "string", "error_message": "string"}


def write_card(store: Store, record: RunRecord) -> None:
    """Write the card, which says how the pictures were made, unless the user has one there. Raises OutputError."""
    text = card(record)
    if store.has(CARD) and not _is_outdated(store.read(CARD).decode(errors="replace"), text):
        return
    with store.workshop(CARD) as folder:
        (folder / CARD).write_text(text, encoding="utf-8")
        store.publish(folder / CARD)


def _is_outdated(found: str, text: str) -> bool:
    """Whether a card that was found has another text, and nobody has changed it since it was written."""
    return found != text and found == _sealed(found[: found.rfind(_SEAL)])


def card(record: RunRecord) -> str:
    """The text of the card: a head for `datasets`, then one for people, and a seal by which a change is noticed."""
    return _sealed("\n".join(["---", *_head(record), "---", "", *_body(record), "", ""]))


def _sealed(text: str) -> str:
    return f"{text}{_SEAL}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def _head(record: RunRecord) -> Iterable[str]:
    settings = record.settings
    yield from ("tags:", "- synthetic", "- text-to-image", "configs:", "- config_name: default", "  data_files:")
    yield "  - split: train"
    yield from ("    path:", *(f'    - "{pattern}"' for pattern in _patterns(settings)))
    features = _features(record)
    if features is not None:
        yield from ("dataset_info:", "  features:", *("  " + line for line in features))


def _patterns(settings: Settings) -> list[str]:
    ending = ENDINGS[settings.encode_format]
    folders = [f"[0-9]*/*.{ending}", "[0-9]*/metadata.jsonl"]
    return {"webdataset": ["[0-9]*.tar"], "parquet": ["[0-9]*.parquet"], "files": folders}[settings.output_format]


def _features(record: RunRecord) -> list[str] | None:
    """The columns with their types; None if one has a type that no line can say."""
    additional = {name: _type_name(kind) for name, kind in record.additional_types.items()}
    if None in additional.values():
        return None
    if record.settings.candidates:
        additional = {SCORE: "float64", **additional}
    kind = record.settings.output_format
    if kind == "webdataset":
        return _webdataset_features({**_FACTS, **additional}, ENDINGS[record.settings.encode_format])
    columns = {"image": "image", **_FACTS, **(_STATUS if kind == "parquet" else {}), **additional}
    return _typed(columns)


def _webdataset_features(facts: dict[str, Any], ending: str) -> list[str]:
    inside = ["  " + line for line in _typed(facts)]
    rest = _typed({"txt": "string", "__key__": "string", "__url__": "string"})
    return [f"- name: {ending}", "  dtype: image", "- name: json", "  struct:", *inside, *rest]


def _typed(columns: dict[str, Any]) -> list[str]:
    """Columns and their types in YAML, where a text in JSON is itself, and a bare `no` would be a truth value."""
    quoted = ((json.dumps(name, ensure_ascii=False), dtype) for name, dtype in columns.items())
    return [line for name, dtype in quoted for line in (f"- name: {name}", f"  dtype: {dtype}")]


def _type_name(arrow_type: str) -> str | None:
    whole = arrow_type.removeprefix("u").removeprefix("int")
    return arrow_type if whole in ("8", "16", "32", "64") else _TYPES.get(arrow_type)


def _body(record: RunRecord) -> Iterable[str]:
    settings, maker = record.settings, record.maker
    yield f"# Pictures of {', '.join(name for part in record.parts for name in part.inputs[:3])}"
    yield ""
    yield "Drawn by `pahi-rt bulk`. The same bundle, settings and row draw the same picture again."
    yield ""
    rows = {
        "bundle": f"{_bundle_name(record.bundle)} (pahi.json: {settings.bundle_sha256})",
        "steps": settings.steps,
        "prior": f"{settings.prior}, strength {settings.prior_strength:g}",
        "precision": settings.precision,
        "run seed": f"{settings.seed}, rule {settings.seed_rule}",
        "pictures of each row": _pictures(settings),
        "made with": _maker(maker) if maker else "",
    }
    yield from ("| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items()))
    yield ""
    yield "`pahi-rt bulk verify FOLDER` draws some of them again, and compares."


def _pictures(settings: Settings) -> str:
    if settings.candidates is None:
        return str(settings.count)
    return f"{settings.count}, the best of {settings.candidates} by the scorer {settings.scorer}"


def _bundle_name(bundle: str) -> str:
    """The bundle as it was given; of a path only the name, since the rest means something on one machine only."""
    return PurePath(bundle).name if PurePath(bundle).is_absolute() else bundle


def _maker(maker: Any) -> str:
    return f"pahi-rt {maker.pahi_rt}, {maker.runtime} {maker.runtime_version} on {maker.device}, Pillow {maker.pillow}"
