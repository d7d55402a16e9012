"""The repository's links, and what `pip install` gives to a machine that has nothing else."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pahi_rt
from pahi_rt.locations import built_in
from tests.cli.verbs import list_verbs
from tools.notes import notes

ROOT = Path(__file__).parents[1]
LINKED = ("train", "export", "bench")
LARGEST_BUNDLE = 40_000_000
LARGEST_INSTALL = 330 * 2**20


@pytest.mark.parametrize("name", LINKED)
def test_a_link_at_the_top_leads_into_the_package(name: str) -> None:
    link = ROOT / name
    assert os.readlink(link) == f"pahi_rt/{name}"
    assert (link / "__init__.py").is_file()


@pytest.mark.parametrize("name", LINKED)
def test_git_keeps_the_link(name: str) -> None:
    listed = subprocess.run(["git", "ls-files", "--stage", name], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert listed.stdout.startswith("120000 ")


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without __init__.py would be missing from the wheel, and only there."""
    folders = {path.parent for path in (ROOT / "pahi_rt").rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize("name", built_in())
def test_a_built_in_bundle_is_small(name: str) -> None:
    folder = ROOT / "pahi_rt" / "assets" / name
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LARGEST_BUNDLE


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("cpp/CMakeLists.txt", r"project\(pahi VERSION (\S+)"),
        ("emoji_model/pyproject.toml", r'^version = "(.+)"'),
        *(
            (name, r"pahi-rt(?:-ray)?(?::|.*newTag: )(\d[\d.]*\d)")
            for name in (
                "docs/deploy.md",
                "deploy/Dockerfile",
                "deploy/compose.yaml",
                "deploy/kubernetes/base/deployment.yaml",
            )
        ),
        ("deploy/ray/Dockerfile", r"pahi-rt-ray:(\S+)"),
        ("deploy/ray/rayjob.yaml", r"pahi-rt-ray:(\S+)"),
        ("CITATION.cff", r"^version: (\S+)$"),
    ],
)
def test_every_file_that_names_the_version_names_this_one(name: str, pattern: str) -> None:
    named = re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    assert set(named) == {pahi_rt.__version__}


def test_who_cites_the_package_gives_the_date_of_its_release() -> None:
    released = re.findall(r"^## \[\S+\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = re.findall(r"^date-released: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited == released[:1]


def test_the_notes_of_a_release_are_its_section() -> None:
    changelog = "# Changelog\n\n## [0.3.0] - 2027-01-02\n\nNew.\n\n## [0.2.0] - 2026-12-01\n\nOld.\n"
    assert notes("0.3.0", changelog, '__version__ = "0.3.0"') == "New.\n"
    assert notes("0.2.0", changelog, '__version__ = "0.2.0"') == "Old.\n"


@pytest.mark.parametrize(
    ("changelog", "package", "error"),
    [
        ("## [0.3.0] - 2027-01-02\n\nNew.\n", "0.2.0", "the package is not 0.3.0"),
        ("## [0.3.0] - unreleased\n\nNew.\n", "0.3.0", "no dated section"),
        ("## [0x3.0] - 2027-01-02\n\nNew.\n", "0.3.0", "no dated section"),
    ],
)
def test_a_wrong_tag_has_no_notes(changelog: str, package: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        notes("0.3.0", changelog, f'__version__ = "{package}"')


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel, built from the source distribution, and that one."""
    folder = tmp_path_factory.mktemp("dist")
    succeed(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def bare(distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    install = (folder / "bin" / "pip", "install", "-qq", "--disable-pip-version-check", "--no-compile")
    succeed(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    succeed(*install, "-c", ROOT / "constraints.txt", distributions[".whl"], cwd=folder.parent)
    return folder


def run_elsewhere(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command away from the checkout and its PYTHONPATH, so that only what was installed can be found."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def succeed(*words: str | Path, cwd: Path) -> str:
    """What it printed. It must not fail."""
    done = run_elsewhere(*words, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(bare: Path, *words: str, cwd: Path) -> str:
    return succeed(bare / "bin" / words[0], *words[1:], cwd=cwd)


def expected_modules() -> Iterator[str]:
    for path in (ROOT / "pahi_rt").rglob("*.py"):
        yield path.relative_to(ROOT).as_posix()


@pytest.mark.wheel
def test_the_wheel_holds_the_package_and_nothing_else(distributions: dict[str, Path]) -> None:
    with zipfile.ZipFile(distributions[".whl"]) as wheel:
        names = set(wheel.namelist())
        assert not [entry for entry in wheel.infolist() if entry.external_attr >> 28 == 0o12], "a link"
    packaged = {name for name in names if not name.startswith(f"pahi_rt-{pahi_rt.__version__}.dist-info/")}
    assert {name.partition("/")[0] for name in packaged} == {"pahi_rt"}
    assert {name for name in packaged if name.endswith(".py")} == set(expected_modules())
    assert {"pahi_rt/py.typed", "pahi_rt/train/recipes/sd-turbo.toml"} <= packaged
    page = [path for path in (ROOT / "pahi_rt" / "playground").rglob("*") if path.suffix in (".html", ".css", ".js")]
    assert len(page) > 20 and {path.relative_to(ROOT).as_posix() for path in page} <= packaged
    scripts = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pahi_rt").rglob("*.mjs")}
    assert scripts and scripts <= packaged
    for name in built_in():
        listed = json.loads((ROOT / "pahi_rt" / "assets" / name / "pahi.json").read_text())["files"]
        assert {f"pahi_rt/assets/{name}/{file}" for file in ("pahi.json", *listed)} <= packaged
    assert not [name for name in packaged if "/weights/" in name or "test" in Path(name).name]
    assert {f"pahi_rt-{pahi_rt.__version__}.dist-info/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= names


@pytest.mark.wheel
def test_the_source_distribution_holds_real_files(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions[".gz"]) as archive:
        members = archive.getmembers()
    assert not [member.name for member in members if member.issym() or member.islnk()]
    names = {member.name.partition("/")[2] for member in members}
    assert set(expected_modules()) <= names
    assert {"LICENSE", "NOTICE", "README.md", "pyproject.toml"} <= names
    strange = ("tests", "emoji_model", "cpp", "deploy", *(f"{name}/" for name in LINKED))
    assert not [name for name in names if "/results/" in name or name.startswith(strange)]


@pytest.mark.wheel
def test_the_install_is_small_and_has_no_torch(bare: Path, tmp_path: Path) -> None:
    installed = {
        entry["name"].lower() for entry in json.loads(run(bare, "pip", "list", "--format", "json", cwd=tmp_path))
    }
    assert "pahi-rt" in installed
    assert not {"torch", "diffusers", "transformers", "onnx", "pytest"} & installed
    assert sum(path.lstat().st_size for path in bare.rglob("*") if path.is_file()) < LARGEST_INSTALL


@pytest.mark.wheel
@pytest.mark.parametrize("verb", list_verbs())
def test_every_verb_has_help(bare: Path, verb: str, tmp_path: Path) -> None:
    assert f"Usage: pahi-rt {verb}".strip() in run(bare, "pahi-rt", *verb.split(), "--help", cwd=tmp_path)


@pytest.mark.wheel
@pytest.mark.parametrize("bundle", ["contract", *built_in()])
def test_it_draws(bare: Path, contract: Path, bundle: str, tmp_path: Path) -> None:
    place = str(contract) if bundle == "contract" else bundle
    words = ("pahi-rt", "generate", "a red apple", "--seed", "7", "--json", "--bundle", place)
    (picture,) = json.loads(run(bare, *words, cwd=tmp_path))["pictures"]
    assert (tmp_path / picture["path"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.wheel
def test_a_missing_extra_is_named(bare: Path, tmp_path: Path) -> None:
    done = run_elsewhere(bare / "bin" / "pahi-rt", "export", "model", "-o", "bundle", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("fix: pip install 'pahi-rt[export]'\n"), done.stderr
