from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from inspect import get_annotations
from pathlib import Path

import pytest

import pahi_rt.bundle
from pahi_rt import __version__
from pahi_rt.cli import bench, build, bundles, embed, evaluate, export, generate, inspect, serve, train
from pahi_rt.cli.options import expand_name
from pahi_rt.errors import BundleError
from tests.cli.conftest import Run
from tests.cli.verbs import list_verbs

ROOT = Path(__file__).parents[2]
VERBS = list_verbs()[1:]


def test_version(run: Run) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"pahi-rt {__version__}\n", "")


def test_no_verb_shows_the_help(run: Run) -> None:
    result = run()
    assert "Usage: pahi-rt" in result.output
    assert all(verb in result.output for verb in VERBS if " " not in verb)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_verb_has_help(run: Run, verb: str, flag: str) -> None:
    result = run(*verb.split(), flag)
    assert result.exit_code == 0
    assert f"Usage: pahi-rt {verb}" in result.stdout


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_imports_nothing_heavy(verb: str) -> None:
    script = """
import sys
sys.argv[0] = "pahi-rt"
from pahi_rt.cli import main
try:
    main()
except SystemExit:
    pass
heavy = {"numpy", "PIL", "onnxruntime", "tokenizers", "huggingface_hub", "torch"}
print(*sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    command = [sys.executable, "-W", "error", "-c", script, *verb.split(), "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert f"Usage: pahi-rt {verb}".strip() in done.stdout
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("switch", ["option", "environment"])
def test_debug_shows_the_traceback(run: Run, switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if switch == "environment":
        monkeypatch.setenv("PAHI_DEBUG", "1")
    for words in (["generate", "a cat", "--bundle", "nothing"], ["bundles", "show", "nothing"]):
        result = run(*words, *(["--debug"] if switch == "option" else []))
        assert isinstance(result.exception, BundleError)
        assert result.exit_code == 1


def test_debug_may_stand_before_the_second_verb(run: Run) -> None:
    assert isinstance(run("bundles", "--debug", "show", "nothing").exception, BundleError)


def test_bugs_keep_their_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pahi_rt.bundle, "open_bundle", fail)
    assert isinstance(run("inspect", "emoji").exception, ZeroDivisionError)


@pytest.mark.parametrize(("found", "name"), [(None, "env/bin/pahi-rt"), ("/usr/bin/pahi-rt", "pahi-rt")])
def test_the_next_command_can_be_typed(run: Run, found: str | None, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["env/bin/pahi-rt"])
    monkeypatch.setattr("shutil.which", lambda _: found)
    assert run("bundles").stderr == f"next: {name} bundles show emoji\n"


def test_shell_completion(run: Run) -> None:
    assert "--install-completion" in run("--help").stdout


def test_a_closed_pipe_is_no_crash(contract: Path) -> None:
    command = f"{sys.executable} -c 'from pahi_rt.cli import main; main()' inspect {contract} | true"
    done = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr


PATHS: dict[Callable[..., None], list[str]] = {
    generate.generate: ["bundle", "like"],
    serve.serve: ["bundles", "api_key_file"],
    inspect.inspect: ["bundle"],
    bundles.show: ["bundle"],
    export.export: ["model", "output", "prior", "decoder", "calibration"],
    build.build: ["bundle"],
    embed.triton: ["bundle", "output"],
    train.train: ["output", "recipe", "settings"],
    evaluate.evaluate: ["targets", "recipe", "encoder", "scorers", "judge"],
    bench.latency: ["bundle", "output"],
    bench.table2: ["bundle", "output"],
    bench.peers: ["model", "bundle", "output"],
    bench.precisions: ["bundle", "recipe", "output"],
    bench.cuda: ["model", "work", "bundle", "output"],
    bench.pairs: ["bundle", "recipe", "output"],
    bench.frontier: ["report", "output"],
    bench.documents: ["root"],
}


@pytest.mark.parametrize(("verb", "name"), [(verb, name) for verb, names in PATHS.items() for name in names])
def test_every_path_may_begin_with_a_tilde(
    verb: Callable[..., None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (option,) = get_annotations(verb, eval_str=True)[name].__metadata__
    assert str(option.parser("~/x")) == "/home/me/x"


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("~", "/home/me"),
        ("~/x", "/home/me/x"),
        ("pickscore:~/x", "pickscore:/home/me/x"),
        ("generator.source=~/x", "generator.source=/home/me/x"),
        ('key="~/x"', 'key="/home/me/x"'),
        ("owner/name", "owner/name"),
        ("hub:owner/name@a~b", "hub:owner/name@a~b"),
        ("backup~", "backup~"),
        ("./~/x", "./~/x"),
    ],
)
def test_a_tilde_in_a_name(text: str, expanded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_name(text) == expanded


def test_a_user_without_a_home(
    run: Run, here: Path, contract: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    shutil.make_archive("contract", "zip", contract)
    result = run("generate", "a cat", "--bundle", "contract.zip", "-o", "cat.png")
    assert result.exit_code == 0, result.stderr
    (private,) = tmp_path.glob("pahi-rt-*")
    assert result.stderr.startswith(f"note: there is no home to keep a cache in: it is {private}; set XDG_CACHE_HOME")
    assert (here / "cat.png").is_file()
