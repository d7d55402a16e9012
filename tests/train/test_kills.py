"""A training that is killed again and again ends like one that was not, and leaves nothing else behind.

Each kill follows something that the run has just written, which Linux tells (inotify): never a time. A start is a
process of its own, forked from one that has imported everything.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import select
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from pahi_rt.models.random_models import random_tokenizer, save_random_pipeline
from pahi_rt.train.recipe import Optimisation, Pretraining, PriorSettings, PromptSettings, Recipe, Scorers
from pahi_rt.train.training import train

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")]

MODIFIED, MOVED_HERE, CREATED, DELETED = 0x2, 0x80, 0x100, 0x200
SCRATCH = ".pahi-rt-write-"
"""How the name of a folder begins in which a file is being written."""
PROMPTS = [f"a {colour} {animal}" for colour in ("red", "blue", "green") for animal in ("cat", "dog", "fox", "hen")]


class Cue(NamedTuple):
    """What the run does just before it is killed."""

    folder: str
    happens: int
    name: str
    """How the file's name begins."""
    times: int = 1


CUES = [
    Cue("", CREATED, SCRATCH),  # nothing is there yet
    Cue("", MOVED_HERE, "run.json"),  # its recipe is not
    Cue("", MOVED_HERE, "recipe.toml"),
    Cue("", CREATED, "environment.jsonl"),
    Cue("", MODIFIED, "metrics.jsonl"),  # pretraining
    Cue("samples", CREATED, SCRATCH),
    Cue("samples", MOVED_HERE, "00000000.png"),
    Cue("", MOVED_HERE, "metrics.jsonl"),  # rows that are made again were dropped
    Cue("", MOVED_HERE, "prior.safetensors"),  # its checkpoint is not
    Cue("checkpoints", CREATED, SCRATCH),
    Cue("checkpoints", MOVED_HERE, "0000000"),
    Cue("", MODIFIED, "metrics.jsonl", 3),
    Cue("", MODIFIED, "environment.jsonl"),
    Cue("checkpoints", CREATED, SCRATCH),  # the second one
    Cue("", MODIFIED, "metrics.jsonl", 5),  # its evaluation, before its pictures or after
    Cue("checkpoints", MOVED_HERE, "0000000", 2),
    Cue("samples", CREATED, SCRATCH),
    Cue("checkpoints", DELETED, "0000000"),
    Cue("tensorboard", MODIFIED, "events"),
    Cue("", MODIFIED, "metrics.jsonl", 9),
]


class Watcher:
    """What happens in some folders."""

    def __init__(self, *folders: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_CLOEXEC)
        self._folders: dict[int, str] = {}
        for folder in folders:
            wanted = MODIFIED | MOVED_HERE | CREATED | DELETED
            self._folders[libc.inotify_add_watch(self._handle, os.fsencode(folder), wanted)] = folder.name
        assert self._handle >= 0 and min(self._folders) >= 0, os.strerror(ctypes.get_errno())

    def events(self, process: multiprocessing.process.BaseProcess) -> Iterator[tuple[str, int, str]]:
        """Folder, what happens and to which file, until `process` ends."""
        while select.select([self._handle, process.sentinel], [], [])[0] != [process.sentinel]:
            if select.select([self._handle], [], [], 0)[0]:
                yield from self._read()

    def _read(self) -> Iterator[tuple[str, int, str]]:
        content, start = os.read(self._handle, 65536), 0
        while start < len(content):
            watch, happens, _, length = struct.unpack_from("iIII", content, start)
            start += 16 + length
            yield self._folders[watch], happens, content[start - length : start].rstrip(b"\0").decode()

    def close(self) -> None:
        os.close(self._handle)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Real classes at tiny size, with all that a run can do: eq. (10), autocast, a scorer that remembers prompts."""
    folder = tmp_path_factory.mktemp("models")
    save_random_pipeline(folder / "tiny")
    (folder / "prompts.txt").write_text("\n".join(PROMPTS))
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    text = {**shared, "vocab_size": 600, "max_position_embeddings": 24, "bos_token_id": 598, "eos_token_id": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(vision_config={**shared, "image_size": 32, "patch_size": 8}, text_config=text))
    model.save_pretrained(folder / "clip")
    random_tokenizer(600, 24).save_pretrained(folder / "clip")
    clip = f"pickscore:{folder / 'clip'}"
    return Recipe(
        generator=str(folder / "tiny"),
        prompts=PromptSettings(str(folder / "prompts.txt"), validation=2, test=2),
        scorers=Scorers({clip: 1.0}, (clip, "redness")),
        prior=PriorSettings(hidden=8),
        optimisation=Optimisation(
            batch=3,
            learning_rate=0.01,
            warmup_steps=4,
            evaluate_every=4,
            patience=99,
            max_steps=32,
            autocast="bf16",
        ),
        pretraining=Pretraining(steps=3, batch=4, decoder_hidden=8),
    )


Starts = multiprocessing.context.ForkServerContext


@pytest.fixture(scope="module")
def starts() -> Starts:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pahi_rt.train.training", "diffusers", "transformers"])
    return context


def start(starts: Starts, path: Path, recipe: Recipe) -> multiprocessing.process.BaseProcess:
    """Begin the run in `path`, or go on with it."""
    begun = (path / "recipe.toml").exists()
    arguments = {"resume": True} if begun else {"recipe": recipe}
    process = starts.Process(target=train, args=("pahi", path), kwargs=arguments)
    process.start()
    return process


def kill_at(cue: Cue, starts: Starts, path: Path, recipe: Recipe) -> None:
    """Start, and kill as soon as the cue was seen as often as it says."""
    folders = [path]
    if (path / "recipe.toml").exists():
        folders += [path / name for name in ("samples", "checkpoints", "tensorboard")]
        for folder in folders:
            folder.mkdir(exist_ok=True)
    watcher, seen = Watcher(*folders), 0
    place = path.joinpath(cue.folder).name
    process = start(starts, path, recipe)
    for where, happens, name in watcher.events(process):
        seen += where == place and bool(happens & cue.happens) and name.startswith(cue.name)
        if seen == cue.times:
            process.kill()
            break
    watcher.close()
    process.join()
    assert process.exitcode == -9, f"it ended by itself, and did not do {cue}"


def contents(path: Path) -> dict[str, bytes]:
    """All but TensorBoard's events, which hold times, and the list of starts."""
    files = {str(file.relative_to(path)): file for file in path.rglob("*") if file.is_file()}
    return {
        name: file.read_bytes()
        for name, file in files.items()
        if not name.startswith(("tensorboard/", "environment.jsonl"))
    }


def test_twenty_kills_change_nothing(recipe: Recipe, starts: Starts, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    start(starts, whole, recipe).join()
    killed.mkdir()
    for cue in CUES:
        kill_at(cue, starts, killed, recipe)
    last = start(starts, killed, recipe)
    last.join()
    assert last.exitcode == 0
    ours, theirs = contents(killed), contents(whole)
    assert sorted(ours) == sorted(theirs)
    assert [name for name in theirs if ours[name] != theirs[name]] == []
    assert {path.name for path in killed.iterdir()} == {path.name for path in whole.iterdir()}
    events = list((killed / "tensorboard").iterdir())
    assert len(events) <= len(CUES)  # one of each start that came so far
    assert len((killed / "environment.jsonl").read_text().splitlines()) <= len(CUES)
