import platform
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pahi_rt import machine
from pahi_rt.errors import RuntimeUnavailable
from pahi_rt.machine import (
    check_threads,
    cpu_features,
    cpu_kind,
    cpu_name,
    free_memory,
    has_bfloat16,
    is_core_taken,
    module_version,
    usable_cores,
)


def test_the_model_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nprocessor\t: 1\nmodel name\t: Other\n"
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: text)
    assert cpu_name() == "Some CPU @ 3 GHz"


def test_a_processor_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "processor\t: 0\n")
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert cpu_name() is None
    assert cpu_features() == []


def test_features_are_those_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "flags\t\t: fpu avx2 avx512_vnni avx2x\n")
    assert cpu_features() == ["avx2", "avx512_vnni"]


@pytest.mark.parametrize(
    ("machine", "text", "kind"),
    [
        ("x86_64", "model name: Xeon\nflags: fpu avx2 avx512f\n", "x86_64, avx2, avx512f"),
        ("aarch64", "Features: fp asimd asimdhp asimddp\n", "aarch64, asimdhp, asimddp"),  # Graviton2
        ("aarch64", "Features: fp asimd asimddp i8mm bf16 sve\n", "aarch64, asimddp, i8mm, bf16, sve"),  # Graviton3
        ("arm64", "", "arm64, Apple M2"),
        ("riscv64", "processor: 0", "riscv64, Apple M2"),
    ],
)
def test_kinds_of_processors(machine: str, text: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: text)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "processor", lambda: "Apple M2")
    assert cpu_kind() == kind


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("flags\t: avx2 fma", False),
        ("flags\t: avx2 avx512f avx512_bf16", True),
        ("flags\t: avx2 amx_bf16", True),
        ("Features\t: fp asimd", False),
        ("Features\t: fp asimd bf16", True),
        ("", False),
    ],
)
def test_which_processors_multiply_in_bfloat16(text: str, has: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: text)
    assert has_bfloat16() is has


def test_versions_come_from_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("installed_under_another_name")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert module_version(module.__name__) is None
    module.__version__ = "1.2.3"  # type: ignore[attr-defined]
    assert module_version(module.__name__) == "1.2.3"


def test_a_module_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert module_version("onnxruntime") is None


@pytest.mark.parametrize("error", ["ImportError()", "OSError('libcuda.so.1')", "RuntimeError('no device')"])
def test_a_module_that_cannot_be_loaded_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "a_broken_module.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert module_version("a_broken_module") is None


def test_a_module_that_needs_a_home_is_lent_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_module_at_home.py").write_text("from pathlib import Path\nPath.home()\n__version__ = '1.2'")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", "")  # so that it is put back afterwards
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert module_version("a_module_at_home") == "1.2"


@pytest.mark.parametrize("threads", [0, -1, 2000, 2**40])
def test_a_number_of_threads_that_makes_no_sense(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    check_threads(1)
    check_threads(64)
    with pytest.raises(RuntimeUnavailable, match=f"cannot run on {threads} threads") as caught:
        check_threads(threads)
    assert "--threads 1 to 64" in caught.value.fix


@pytest.mark.parametrize(
    ("tasks", "threads", "taken"), [(1, None, False), (2, None, True), (2, 1, False), (3, 1, True), (1, 16, False)]
)
def test_a_core_is_taken_where_other_work_leaves_too_few(
    monkeypatch: pytest.MonkeyPatch, tasks: int, threads: int | None, taken: bool
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: f"14.43 15.01 16.75 {tasks}/185 26966\n")
    assert is_core_taken(threads) is taken


def test_whose_cores_are_taken_is_unknown_on_a_part_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "14.43 15.01 16.75 40/185 26966\n")
    assert is_core_taken(None) is False


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *args, **kwargs: "nothing")
    assert is_core_taken(None) is False


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this process's control group, one in another, on a system of 8 cores and 1000 KiB of memory."""
    monkeypatch.setattr(machine, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemFree: 10 kB\nMemAvailable:   1000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("1:cpu:/other\n0::/outer/inner\n")
    (tmp_path / "cgroup" / "outer" / "inner").mkdir(parents=True)
    return tmp_path / "cgroup" / "outer" / "inner"


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_a_limit_of_cores_counts(group: Path, quota: str, cores: int) -> None:
    for folder in (group, group.parent):
        (folder / "cpu.max").write_text(quota)
        assert usable_cores() == cores
        (folder / "cpu.max").write_text("max 100000")


@pytest.mark.parametrize(
    ("most", "taken", "files", "free"),
    [("max", 500, 0, 1000), (800, 500, 0, 300), (800, 700, 600, 700), (800, 900, 0, 0), (9000, 500, 0, 1000)],
)
def test_free_memory_is_what_the_system_and_the_limit_leave(
    group: Path, most: int | str, taken: int, files: int, free: int
) -> None:
    for folder in (group, group.parent):
        (folder / "memory.max").write_text(f"{most if most == 'max' else int(most) * 1024}\n")
        (folder / "memory.current").write_text(f"{taken * 1024}\n")
        (folder / "memory.stat").write_text(f"anon 1\ninactive_file {files * 1024}\nactive_file 2\n")
        assert free_memory() == free * 1024
        (folder / "memory.max").write_text("max\n")


def test_a_system_without_control_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_PROC", tmp_path)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    assert usable_cores() >= 1
    assert free_memory() > 0
