"""Every file in examples/ is run as its first lines say; those that need a server, in test_servers.py."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pahi_rt import Pipeline

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(words: Sequence[object], folder: Path) -> str:
    """Standard output of a program that succeeds, with `pahi-rt` of this checkout."""
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": search, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def example(name: str, folder: Path, *words: object) -> str:
    return run([sys.executable, EXAMPLES / name, *words], folder)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_page_lists_every_example() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert len(files) == 6 and all(f"[{name}]({name})" in page for name in files)


def test_dial(tmp_path: Path) -> None:
    assert "seeds 0 to 3" in example("dial.py", tmp_path, "a grinning cat", "dial.png")
    sheet, pipeline = pixels(tmp_path / "dial.png"), Pipeline.load("emoji")
    assert sheet.shape == (4 * 128, 5 * 128, 3)
    assert np.array_equal(sheet[128:256, :128], np.asarray(pipeline("a grinning cat", seed=1, prior_strength=0.0)))
    assert np.array_equal(sheet[128:256, -128:], np.asarray(pipeline("a grinning cat", seed=1)))


@pytest.mark.slow
def test_bulk_run(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    pytest.importorskip("pyarrow")
    said = example("bulk_run.py", tmp_path, "out").splitlines()
    assert sum("12 pictures in 2 shards" in line for line in said) == 2
    assert sum("(128, 128)" in line for line in said) == 3
    assert "'status': 'success'" in said[-1]
    assert len(list((tmp_path / "out").glob("*.tar"))) == 2


@pytest.mark.slow
def test_notebook(tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(EXAMPLES / "priors.ipynb", as_version=4)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path)}
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(EXAMPLES)}})
    client.execute(env=environment)
    found = [output["data"] for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) for data in found if "image/png" in data]
    assert [picture.size for picture in pictures[:2]] == [(6 * 128, 3 * 128), (5 * 128, 3 * 128)]
    assert len(pictures) == 3


def test_notebook_has_no_output() -> None:
    """Pictures in it would be committed again with each run."""
    import json

    cells = json.loads((EXAMPLES / "priors.ipynb").read_text(encoding="utf-8"))["cells"]
    assert len(cells) >= 6 and not any(cell.get("outputs") for cell in cells)
