"""The run folder: all files that a training writes.

recipe.toml                     the settings of the last start, with every default filled in
run.json                        hi or pahi, and the hashes of the split of the prompts
environment.jsonl               versions, devices and the settings for them, a line for each start
checkpoints/STEP.safetensors    the last two states, for --resume
prior.safetensors               the best prior so far: the result
metrics.jsonl, tensorboard/     the metrics of every step and every evaluation
samples/STEP.png                validation prompts: Gaussian left, prior right, from the same noise
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from pahi_rt import __version__
from pahi_rt.errors import OutputError, RunError
from pahi_rt.files import explain, write_whole, writing_whole
from pahi_rt.machine import cpu_name, module_version
from pahi_rt.marker import try_lock
from pahi_rt.models.priors import FILE as PRIOR
from pahi_rt.output import contact_sheet
from pahi_rt.pictures import to_bytes
from pahi_rt.scratch import is_scratch, sweep
from pahi_rt.terminal import command
from pahi_rt.train.recipe import Recipe, load_recipe, to_toml

KEPT = 2
"""Checkpoints that are kept: the last one, and one to fall back to."""
TOOLS = ("torch", "diffusers", "transformers", "accelerate", "safetensors")
_RECIPE, _FACTS, _CHECKPOINTS = "recipe.toml", "run.json", "checkpoints"


@dataclass(frozen=True)
class Run:
    """A run folder and its settings."""

    path: Path
    kind: str
    """hi or pahi."""
    recipe: Recipe
    split: Mapping[str, str]
    """Part of the prompts -> sha256, as in `Split.sha256`."""

    @property
    def prior(self) -> Path:
        """The best prior so far."""
        return self.path / PRIOR

    @property
    def metrics(self) -> Path:
        """The metrics as JSON Lines."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """The metrics for TensorBoard."""
        return self.path / "tensorboard"

    def samples(self, step: int) -> Path:
        """Path of the pictures of the evaluation at `step`."""
        return self.path / "samples" / f"{step:08d}.png"

    @property
    def pictures(self) -> Path | None:
        """Path of the pictures of the last evaluation; None before the first."""
        return max((self.path / "samples").glob("*.png"), default=None)

    def checkpoint(self, step: int) -> Path:
        """Path of the checkpoint at `step`."""
        return self.path / _CHECKPOINTS / f"{step:08d}.safetensors"

    def checkpoints(self) -> list[Path]:
        """Paths of the existing checkpoints, the newest last."""
        return sorted((self.path / _CHECKPOINTS).glob("*.safetensors"))

    def drop_old_checkpoints(self) -> None:
        """Delete all checkpoints but the newest `KEPT`."""
        for path in self.checkpoints()[:-KEPT]:
            path.unlink(missing_ok=True)

    def save_recipe(self) -> None:
        """Write the settings to recipe.toml. Raises OutputError if that fails."""
        with writing(self.path):
            write_whole(self.path / _RECIPE, to_toml(self.recipe))

    def note_environment(self, environment: Mapping[str, object]) -> None:
        """Add a line about this start to environment.jsonl."""
        with writing(self.path), (self.path / "environment.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(environment) + "\n")


def check_new_run(path: Path) -> None:
    """Raises RunError if `path` exists and is not empty, and OutputError if it cannot be made.

    A run that was killed while its folder was being created counts as empty.
    """
    if path.is_dir():
        sweep(path)
        if not any(path.iterdir()) or (_was_cut_off(path) and _read_facts(path)):
            return
    if (path / _FACTS).is_file():
        fix = "add --resume to go on with it, or name another folder with -o"
        raise RunError(f"{path} already holds a run", fix=fix)
    if path.exists() or path.is_symlink():
        raise RunError(f"{path} is there already, and is not a run", fix="name another folder with -o")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise OutputError(f"no folder can be made in {nearest}", fix="name another folder with -o")


def create_run(run: Run) -> Run:
    """Create the folder of `run`; return the run. Raises OutputError if it cannot be written."""
    with writing(run.path):
        run.path.mkdir(parents=True, exist_ok=True)
        # Written first, because no other program has such a file: after a kill, it shows that the folder is ours.
        write_whole(run.path / _FACTS, json.dumps({"kind": run.kind, "split": dict(run.split)}, indent=2) + "\n")
    run.save_recipe()
    return run


def open_run(path: Path, overrides: Sequence[str] = ()) -> Run:
    """Open the run in a folder, with `overrides` of its recipe as for `load_recipe`.

    Raises RunError if there is none, and RecipeError if its recipe is damaged or an override does not fit it.
    """
    kind, split = _read_facts(path)
    if _was_cut_off(path):
        fix = f"{command('pahi-rt', 'train', kind, '-o', path)} --recipe RECIPE, without --resume"
        raise RunError(f"the run in {path} was cut off before it began", fix=fix)
    return Run(path, kind, load_recipe(path / _RECIPE, overrides), split)


def _was_cut_off(path: Path) -> bool:
    """Whether a run was killed when its folder held only run.json."""
    return {entry.name for entry in path.iterdir() if not is_scratch(entry)} == {_FACTS}


def _read_facts(path: Path) -> tuple[str, dict[str, str]]:
    try:
        facts = json.loads((path / _FACTS).read_text(encoding="utf-8"))
        return facts["kind"], facts["split"]
    except FileNotFoundError as error:
        raise RunError(f"there is no run in {path}", fix="name a folder that `pahi-rt train` wrote") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{path / _FACTS} cannot be read: {error!r}"
        raise RunError(what, fix="put it back from a copy, or train in a new folder") from error


def lock(run: Run) -> IO[str]:
    """Lock a run until the returned file is closed. Raises RunError if another process holds the lock."""
    with writing(run.path):
        file = (run.path / _FACTS).open("r+", encoding="utf-8")
        if try_lock(file.fileno()):
            return file
    file.close()
    fix = "wait for its end, or stop it with Ctrl-C, or name another folder with -o"
    raise RunError(f"another process is training in {run.path}", fix=fix)


def describe_environment(device: torch.device, processes: int, step: int) -> dict[str, object]:
    """Device, processes and versions of this start, for environment.jsonl; `step` is where it begins."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    versions = {tool: module_version(tool) for tool in TOOLS}
    python = platform.python_version()
    system = f"{platform.system()} {platform.machine()}"
    start = {"from_step": step, "processes": processes, "device": f"{device.type}: {name}", "system": system}
    return {**start, "python": python, "pahi-rt": __version__, **versions}


def save_pictures(path: Path, pairs: Tensor, prompts: Iterable[str]) -> None:
    """Write pictures [P, 2, 3, H, W] in [0, 1] as one PNG, a row for each prompt; a text chunk lists the prompts."""
    pixels = to_bytes(pairs.flatten(0, 1).permute(0, 2, 3, 1).numpy())
    info = PngInfo()
    info.add_text("prompts", json.dumps(list(prompts), ensure_ascii=False))
    sheet = contact_sheet([Image.fromarray(picture) for picture in pixels], columns=2)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
        with writing_whole(path) as new:
            sheet.save(new, "PNG", pnginfo=info)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into an OutputError."""
    try:
        yield
    except OSError as error:
        raise explain(error, path, "and go on with --resume; or name another folder with -o") from error
