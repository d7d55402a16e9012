"""Loads the prompts to train and to evaluate a prior with, and splits them.

    load_split("pick-a-pic") -> Split(train, validation, test)

Prompts that differ only in case, blanks or Unicode composition count as the same: the tokenizer ignores all three.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pahi_rt import plugins
from pahi_rt.columns import find_column
from pahi_rt.errors import PromptError
from pahi_rt.hub import PREFIX, parse
from pahi_rt.plugins import find_plugins, load_plugin
from pahi_rt.terminal import command
from pahi_rt.tokenizer import check_prompts, split_lines

PICK_A_PIC = "yuvalkirstain/pickapic_v1_no_images"
"""The prompts of Kirstain et al. 2023 without the pictures, in the column `caption`; 35,000 are distinct."""


@dataclass(frozen=True)
class Split:
    """Disjoint parts of a set of distinct prompts."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    """Their loss decides when training stops."""
    test: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Parts of `test` to report separately, by name; may be empty."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """Prompt of `test` -> its meaning, where several prompts have the same meaning and so are not independent evidence.
    A prompt that is not listed is its own meaning."""

    @property
    def sha256(self) -> dict[str, str]:
        """Part -> sha256 of its prompts, in order, as one JSON list in UTF-8."""
        parts = {name: getattr(self, name) for name in ("train", "validation", "test")}
        texts = {name: json.dumps(prompts, ensure_ascii=False) for name, prompts in parts.items()}
        return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def load_split(source: str | Path, validation: int = 500, test: int = 500, seed: int = 0) -> Split:
    """Load the prompts of a source and split them: by the plugin of that name, or else at random by `split_prompts`.

    Raises PromptError as `load_prompts` and `split_prompts` do.
    """
    added = find_plugins(plugins.PROMPTS)
    if str(source) in added:
        split: Split = load_plugin(added[str(source)])(validation, test, seed)
        return split
    return split_prompts(load_prompts(source), validation, test, seed)


def load_prompts(source: str | Path) -> list[str]:
    """The distinct prompts of a source, in its order, each in its first spelling and without blanks around it.

    `source` is a name in `NAMED`, "hub:owner/name@revision" for any data set on the Hugging Face hub, or a file: plain
    text with one prompt a line, or CSV, TSV (PartiPrompts.tsv), JSON Lines or Parquet with a column of
    `pahi_rt.columns.COLUMNS`.
    Raises PromptError for a source that is missing, cannot be read, lacks such a column, or holds no prompt at all or
    one prompt many times.
    """
    name = str(source)
    if name in NAMED:
        return distinct(NAMED[name](), name)
    if name.startswith(PREFIX):
        return distinct(_read_hub(name.removeprefix(PREFIX)), name)
    return distinct(_read_file(Path(source)), name)


def split_prompts(prompts: Sequence[str], validation: int = 500, test: int = 500, seed: int = 0) -> Split:
    """Split the distinct `prompts` at random: `validation` and `test` of them, and the rest for training.

    The part of a prompt depends only on its wording and the seed, not on the order of `prompts` or the version of any
    library. Raises PromptError if nothing would be left for training.
    """
    shuffled = shuffle(distinct(prompts, "the list of prompts"), seed)
    if min(validation, test) < 0:
        raise PromptError(f"a split of {validation} and {test} prompts is not possible", fix="use 0 or more of each")
    held_out = validation + test
    if held_out >= len(shuffled):
        what = f"{validation} validation and {test} test prompts are asked for, and there are {len(shuffled)} in all"
        part = max(len(shuffled) // 10, 1)
        fewer = f"--set prompts.validation={part} --set prompts.test={part}"
        raise PromptError(what, fix=f"give more prompts, or hold out fewer: {fewer}")
    return Split(tuple(shuffled[held_out:]), tuple(shuffled[:validation]), tuple(shuffled[validation:held_out]))


def distinct(prompts: Iterable[str | None], source: str) -> list[str]:
    """The distinct prompts, in order and in their first spelling, without blank ones and None.

    `source` names them in errors. Raises PromptError for a prompt that is not text, if there are none, or if all of
    several are the same.
    """
    found: dict[str, str] = {}
    count = 0
    for number, prompt in enumerate(prompts, 1):
        if prompt is None or (isinstance(prompt, str) and not prompt.strip()):
            continue
        _check(prompt, f"prompt {number} of {source}")
        found.setdefault(key(prompt), prompt.strip())
        count += 1
    if not found:
        raise PromptError(f"{source} holds no prompt", fix="give at least a few, such as 'a red apple'")
    if count > 1 and len(found) == 1:
        (only,) = found.values()
        raise PromptError(f"{source} holds only one prompt, {count} times: {only!r}", fix="give prompts that differ")
    return list(found.values())


def key(prompt: str) -> str:
    """The same text for all spellings of one prompt: Unicode composed, case folded, single blanks."""
    return " ".join(unicodedata.normalize("NFC", prompt).casefold().split())


def shuffle(prompts: Iterable[str], seed: int) -> list[str]:
    """The prompts, sorted by a hash of the seed and of each prompt's `key`."""
    return sorted(prompts, key=lambda prompt: hashlib.sha256(f"{seed}\n{key(prompt)}".encode()).digest())


def _check(prompt: str, name: str) -> None:
    try:
        check_prompts([prompt])
    except PromptError as error:
        raise PromptError(f"{name}: {error.what}", fix=error.fix) from error


def _read_file(path: Path) -> Iterable[Any]:
    reader = READERS.get(path.suffix.lower())
    if not path.is_file():
        named = ", ".join((*NAMED, *find_plugins(plugins.PROMPTS), f"{PREFIX}owner/name"))
        fix = f"give a file ({', '.join(READERS)}) or one of {named}"
        raise PromptError(f"there are no prompts at {path}", fix=fix)
    if reader is None:
        fix = f"use one of {', '.join(READERS)}; plain text, one prompt a line, is .txt"
        raise PromptError(f"{path} has an unknown file type", fix=fix)
    try:
        return reader(path)
    except OSError as error:
        raise PromptError(f"{path} cannot be read: {error}", fix="check its permissions, or fetch it again") from error


def _read_text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = len(split_lines(content[: error.start].decode("latin-1")))
        what = f"{path} is not UTF-8: line {line} holds the byte {content[error.start]:#04x}"
        convert = f"{command('iconv', '-f', 'LATIN1', '-t', 'UTF-8', path)} > NEW{path.suffix}"
        fix = f"save it as UTF-8: {convert}, or the encoding it really has"
        raise PromptError(what, fix=fix) from error


def _read_lines(path: Path) -> list[str]:
    return split_lines(_read_text(path))


def _read_csv(path: Path) -> list[Any]:
    return _read_rows(path, csv.reader(io.StringIO(_read_text(path), newline="")))


def _read_tsv(path: Path) -> list[Any]:
    # PartiPrompts.tsv has no quoting: one of its prompts begins with a quotation mark.
    rows = csv.reader(io.StringIO(_read_text(path), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    return _read_rows(path, rows)


def _read_rows(path: Path, rows: Iterable[list[str]]) -> list[Any]:
    try:
        header, *body = [row for row in rows if row] or [[]]
    except csv.Error as error:
        raise PromptError(f"{path} is broken: {error}", fix="save the table again, or give plain text") from error
    if not header:
        return []
    column = header.index(find_column(header, str(path)))
    return [row[column] if column < len(row) else None for row in body]


def _read_jsonl(path: Path) -> list[Any]:
    lines = enumerate(_read_text(path).split("\n"), 1)
    return [_read_object(line, f"line {number} of {path}") for number, line in lines if line.strip()]


def _read_object(line: str, name: str) -> Any:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise PromptError(f"{name} is not JSON: {error}", fix="write one JSON object or string a line") from error
    return row[find_column(list(row), name)] if isinstance(row, dict) else row


def _read_parquet(path: Path) -> list[Any]:
    parquet, arrow = _needs("pyarrow.parquet"), _needs("pyarrow")
    try:
        file = parquet.ParquetFile(path)
        column = find_column(file.schema_arrow.names, str(path))
        return list(file.read(columns=[column]).column(column).to_pylist())
    except arrow.ArrowException as error:
        raise PromptError(f"{path} is not a Parquet file: {error}", fix="write or fetch it again") from error


def _read_hub(name: str) -> list[Any]:
    datasets = _needs("datasets")
    try:
        hub_id = parse(name)
        asked = (name, None) if hub_id is None else (hub_id.repository, hub_id.revision)
        parts = list(datasets.load_dataset(asked[0], revision=asked[1]).values())
    except (datasets.exceptions.DatasetsError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        what = f"the data set {name} could not be loaded from the Hugging Face hub: {reason}"
        # In 2025 users reported the repositories of Pick-a-Pic gone from the hub, where copies of parts of it remain.
        fix = "check the name and the connection, or use a copy or a file: --set prompts.source=hub:owner/name or =FILE"
        raise PromptError(what, fix=fix) from error
    # All parts of the data set: the paper counts the distinct prompts of the whole set.
    return [prompt for part in parts for prompt in part.unique(find_column(part.column_names, name))]


def _needs(package: str) -> Any:
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        what = f"this source of prompts needs the package {package.partition('.')[0]}, which is not installed"
        raise PromptError(what, fix="pip install 'pahi-rt[train]'") from error


NAMED: dict[str, Callable[[], list[Any]]] = {"pick-a-pic": partial(_read_hub, PICK_A_PIC)}
"""Name of a source -> its reader."""

READERS: dict[str, Callable[[Path], list[Any]]] = {
    ".txt": _read_lines,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
"""Ending of a file -> its reader."""
