import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from pahi_rt.errors import PromptError
from pahi_rt.train import prompts
from pahi_rt.train.prompts import Split, load_prompts, load_split, split_prompts

WANTED = ["a red apple, sliced", 'the word "so" in café light', "a fox"]
ROWS = [WANTED[0], "", WANTED[1], "A  RED Apple, sliced ", f" {WANTED[2]} "]
"""What a file holds: a blank row and a duplicate besides."""
MANY = [f"prompt number {number}" for number in range(100)]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


WRITERS: dict[str, Callable[[Path], object]] = {
    "unix.txt": lambda path: path.write_text("\n".join(ROWS) + "\n", encoding="utf-8"),
    "windows.txt": lambda path: path.write_bytes(("\ufeff" + "\r\n".join(ROWS)).encode()),
    "one.csv": lambda path: path.write_text("Prompt\n" + "\n".join(map(quoted, ROWS)), encoding="utf-8"),
    "two.csv": lambda path: path.write_text(
        "id,caption\n" + "\n".join(f"{n},{quoted(row)}" for n, row in enumerate(ROWS)), encoding="utf-8"
    ),
    "parti.tsv": lambda path: path.write_text(
        "Prompt\tCategory\tChallenge\tNote\n" + "".join(f"{row}\tArts\tBasic\t\n" for row in ROWS), encoding="utf-8"
    ),
    "objects.jsonl": lambda path: path.write_text(
        "\n".join(json.dumps({"id": 1, "text": row}) for row in ROWS), encoding="utf-8"
    ),
    "strings.JSONL": lambda path: path.write_text("\n\n".join(map(json.dumps, [*ROWS, None])), encoding="utf-8"),
    "table.parquet": lambda path: pyarrow.parquet.write_table(
        pyarrow.table({"id": range(6), "text": [*ROWS, None]}), path
    ),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_file_gives_its_distinct_prompts(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / name)
    assert load_prompts(tmp_path / name) == WANTED
    assert load_prompts(str(tmp_path / name)) == WANTED


def test_a_tsv_keeps_its_quotes(tmp_path: Path) -> None:
    """One of PartiPrompts' rows begins with a quotation; as quoted CSV it would lose it."""
    path = tmp_path / "PartiPrompts.tsv"
    path.write_text('Prompt\tCategory\n"G I G G L E" painted in thick letters\tWriting\n', encoding="utf-8")
    assert load_prompts(path) == ['"G I G G L E" painted in thick letters']


def test_the_first_of_the_known_columns_holds_the_prompts(tmp_path: Path) -> None:
    path = tmp_path / "both.csv"
    path.write_text("text,prompt\nsome text,a prompt\n", encoding="utf-8")
    assert load_prompts(path) == ["a prompt"]


def test_the_same_prompt_is_told_from_another_one() -> None:
    same = ["Cafe\u0301  at\tNight", " caf\u00e9 at night", "CAF\u00c9 AT NIGHT"]
    assert prompts.distinct([*same, "cafe at night"], "x") == ["Cafe\u0301  at\tNight", "cafe at night"]


@pytest.mark.parametrize(
    ("name", "content", "what", "fix"),
    [
        ("empty.txt", b"", "holds no prompt", "red apple"),
        ("blank.txt", b"\n \n\t\n", "holds no prompt", "red apple"),
        ("empty.csv", b"", "holds no prompt", "red apple"),
        ("header.csv", b"prompt\n", "holds no prompt", "red apple"),
        ("same.txt", b"a fox\nA fox\n a  FOX\n", "only one prompt, 3 times: 'a fox'", "differ"),
        ("latin.txt", b"fine\nalso fine\ncaf\xe9\n", "not UTF-8: line 3 holds the byte 0xe9", "iconv"),
        ("other.csv", b"id;prompt\n1;a fox\n", "no column of prompts, only 'id;prompt'", "prompt or caption or text"),
        (
            "other.tsv",
            b"id\tlabel\n1\ta fox\n",
            "no column of prompts, only 'id', 'label'",
            "prompt or caption or text",
        ),
        ("other.jsonl", b'{"label": "a fox"}\n', "line 1 of .*no column of prompts, only 'label'", "prompt or caption"),
        ("broken.jsonl", b'"a fox"\n{"prompt": \n', "line 2 of .* is not JSON", "one JSON object"),
        ("number.jsonl", b'"a fox"\n{"prompt": 7}\n', "prompt 2 of .* is not text but int", "strings"),
        ("half.jsonl", b'"a fox"\n"\\ud800"\n', "prompt 2 of .* not valid UTF-8", "UTF-8"),
        ("binary.txt", b"a fox\n\0\0\n", "prompt 2 of .*NUL byte", "binary"),
        ("broken.parquet", b"PAR1 and then nothing", "is not a Parquet file", "again"),
        ("long.csv", b"prompt\n" + b"x" * 200_000 + b"\n", "is broken: field larger", "plain text"),
        ("prompts.docx", b"a fox", "has an unknown file type", ".txt, .csv"),
    ],
)
def test_an_unusable_file_is_refused(name: str, content: bytes, what: str, fix: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=what) as caught:
        load_prompts(tmp_path / name)
    assert name in caught.value.what
    assert fix in caught.value.fix


def test_a_parquet_file_without_prompts_names_its_columns(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"url": ["x"], "score": [1.0]}), tmp_path / "x.parquet")
    with pytest.raises(PromptError, match="only 'url', 'score'"):
        load_prompts(tmp_path / "x.parquet")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"no prompts at .*none\.txt") as caught:
        load_prompts(tmp_path / "none.txt")
    assert "pick-a-pic, emoji, hub:owner/name" in caught.value.fix


def parts(split: Split) -> list[set[str]]:
    return [set(part) for part in (split.train, split.validation, split.test)]


def test_a_split_shares_all_prompts_out() -> None:
    split = split_prompts(MANY, 10, 20)
    assert [len(part) for part in (split.train, split.validation, split.test)] == [70, 10, 20]
    assert set.union(*parts(split)) == set(MANY)
    assert not split.groups


def test_a_split_depends_on_neither_order_nor_duplicates() -> None:
    shuffled = [*MANY, *(prompt.upper() for prompt in MANY[::3])]
    random.Random(1).shuffle(shuffled)
    assert split_prompts(list(reversed(MANY)), 10, 20) == split_prompts(MANY, 10, 20)
    spellings = split_prompts(shuffled, 10, 20)
    folded = [{prompt.lower() for prompt in part} for part in parts(spellings)]
    assert folded == parts(split_prompts(MANY, 10, 20))


def test_another_seed_is_another_split() -> None:
    first, second = parts(split_prompts(MANY, 10, 20, seed=0)), parts(split_prompts(MANY, 10, 20, seed=1))
    assert first[1] != second[1]
    assert first[2] != second[2]


def test_a_split_is_the_same_for_ever() -> None:
    """Runs record these hashes, and refuse to go on with other prompts."""
    assert split_prompts(MANY, 10, 20, seed=7).sha256 == {
        "train": "3db07932d0432a2c01ae025df36c8071037c7d9a06efcda375034ffa00c63cc0",
        "validation": "81b6e6a5e40c183158e1dc4a32e39053775c2f3433f2c0525eacc7c39a551162",
        "test": "b1b0668e44fe4d3037f618fe1125daf8763d0eb27bb05bcc405e86265d7adf2b",
    }


def test_a_hash_tells_one_spelling_or_order_from_another() -> None:
    hashes = {Split(train, (), ()).sha256["train"] for train in [("a", "b"), ("b", "a"), ("A", "b"), ("a, b",), ()]}
    assert len(hashes) == 5


def test_too_large_a_split_is_refused_and_its_fix_fits() -> None:
    for count in (3, 10, 1000):
        with pytest.raises(
            PromptError, match=f"500 test prompts are asked for, and there are {count} in all"
        ) as caught:
            split_prompts([f"prompt {number}" for number in range(count)], 500, 500)
        validation, test = map(int, re.findall(r"=(\d+)", caught.value.fix))
        assert split_prompts([f"prompt {number}" for number in range(count)], validation, test).train


def test_a_negative_split_is_refused() -> None:
    with pytest.raises(PromptError, match="-1"):
        split_prompts(MANY, -1, 20)


def test_a_source_with_its_own_split_is_asked_for_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = Split(("a",), ("b",), ("c",), {"hard": ("c",)})
    own = SimpleNamespace(load=lambda: lambda *settings: wanted if settings == (1, 2, 3) else None)
    monkeypatch.setattr(prompts, "find_plugins", lambda group: {"own": own})
    assert load_split("own", 1, 2, 3) is wanted
    (tmp_path / "many.txt").write_text("\n".join(MANY), encoding="utf-8")
    assert load_split(tmp_path / "many.txt", 10, 20) == split_prompts(MANY, 10, 20)


class Part:
    column_names = ("are_different", "caption", "ranking_id")

    def __init__(self, captions: list[str]) -> None:
        self.captions = captions

    def unique(self, column: str) -> list[str]:
        assert column == "caption"
        return list(dict.fromkeys(self.captions))


def fake_datasets(load: Callable[..., Any]) -> ModuleType:
    module = ModuleType("datasets")
    module.load_dataset = load  # type: ignore[attr-defined]
    module.exceptions = SimpleNamespace(DatasetsError=type("DatasetsError", (Exception,), {}))  # type: ignore[attr-defined]
    return module


def test_pick_a_pic_is_the_distinct_captions_of_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, revision: str | None) -> dict[str, Part]:
        assert name == "yuvalkirstain/pickapic_v1_no_images"
        return {"train": Part(["a fox", "a cat", "a fox"]), "test_unique": Part(["A cat", "a dog"])}

    monkeypatch.setitem(sys.modules, "datasets", fake_datasets(load))
    assert load_prompts("pick-a-pic") == ["a fox", "a cat", "a dog"]


def test_a_data_set_that_cannot_be_had_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, revision: str | None) -> object:
        raise ConnectionError(f"Couldn't reach '{name}' on the Hub\nand more")

    monkeypatch.setitem(sys.modules, "datasets", fake_datasets(load))
    with pytest.raises(PromptError, match=r"owner/name could not be loaded .*: Couldn't reach 'owner/name'") as caught:
        load_prompts("hub:owner/name")
    assert "--set prompts.source=" in caught.value.fix


@pytest.mark.parametrize(("source", "package"), [("pick-a-pic", "datasets"), ("x.parquet", "pyarrow")])
def test_a_missing_package_is_named(source: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.parquet", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.parquet").touch()
    with pytest.raises(PromptError, match=f"package {package}, which is not installed") as caught:
        load_prompts(source)
    assert caught.value.fix == "pip install 'pahi-rt[train]'"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_real_library_reads_pick_a_pics_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for part, captions in {"train": ["a fox", "a fox", "a cat"], "test": ["a dog"]}.items():
        table = pyarrow.table({"are_different": [True] * len(captions), "caption": captions})
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(table, tmp_path / "set" / "data" / f"{part}-00000-of-00001.parquet")
    assert sorted(load_prompts(f"hub:{tmp_path / 'set'}")) == ["a cat", "a dog", "a fox"]
    with pytest.raises(PromptError, match="could not be loaded"):
        load_prompts("hub:owner/name")
