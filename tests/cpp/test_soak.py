"""The C library opened and closed a thousand times, and drawing for long: its memory stays level, and nothing leaks.

`make test ARGS="-m 'cpp and slow' -k soak -s"` prints the memory.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pahi_rt.bundle import open_bundle
from tests.cpp.library import DEPENDENCIES, SOURCE, build, run

pytestmark = [
    pytest.mark.cpp,
    pytest.mark.slow,
    pytest.mark.skipif(not DEPENDENCIES.is_dir(), reason=f"there is no {DEPENDENCIES}: run make .venv/.cpp"),
]

PROGRAM = r"""
#include <pahi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static uint8_t rgb[128 * 128 * 3];

static long megabytes(void) {
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1) exit(3);
  fclose(file);
  return pages * sysconf(_SC_PAGESIZE) / 1000000;
}

static void check(pahi_status status) {
  if (status == PAHI_OK) return;
  fprintf(stderr, "error: %s\n", pahi_last_error());
  exit(1);
}

static pahi_pipeline *open_bundle(const char *folder) {
  pahi_options options;
  pahi_pipeline *pipeline;
  pahi_options_init(&options);
  options.threads = 1;
  check(pahi_open(folder, &options, &pipeline));
  return pipeline;
}

static void draw(pahi_pipeline *pipeline, int count) {
  pahi_request request;
  pahi_request_init(&request);
  request.prompt = "a grinning cat";
  for (int i = 0; i < count; ++i) {
    request.seed = (uint64_t)i;
    check(pahi_draw(pipeline, &request, rgb, sizeof rgb));
  }
}

/* Twenty lines of each: opens and closes, then draws. */
int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const int opens = atoi(argv[2]), draws = atoi(argv[3]);
  for (int i = 0; i < opens; ++i) {
    pahi_pipeline *pipeline = open_bundle(argv[1]);
    draw(pipeline, 1);
    pahi_close(pipeline);
    if (opens < 20 || i % (opens / 20) == 0) printf("opens %d %ld\n", i + 1, megabytes());
  }
  pahi_pipeline *pipeline = open_bundle(argv[1]);
  for (int i = 0; i < 20 && draws > 0; ++i) {
    draw(pipeline, draws / 20);
    printf("draws %d %ld\n", (i + 1) * (draws / 20), megabytes());
  }
  pahi_close(pipeline);
  return 0;
}
"""


def soak(folder: Path, opens: int, draws: int, *options: str, flags: tuple[str, ...] = (), **environment: str) -> str:
    """What the program prints, built with the library in `folder`."""
    built = build(folder / "build", "-DPAHI_EXAMPLES=OFF", *options)
    (folder / "soak.c").write_text(PROGRAM)
    link = [f"-I{SOURCE / 'include'}", f"-L{built}", f"-Wl,-rpath,{built}", "-lpahi"]
    run(["cc", "-std=gnu99", "-Wall", "-Werror", *flags, str(folder / "soak.c"), "-o", str(folder / "soak"), *link])
    return run([str(folder / "soak"), str(open_bundle("emoji").path), str(opens), str(draws)], **environment)


def test_memory_stays_level(tmp_path: Path) -> None:
    printed = soak(tmp_path, 1000, 5000)
    print("\n" + printed)
    for what in ("opens", "draws"):
        sizes = [int(line.split()[2]) for line in printed.splitlines() if line.startswith(what)]
        assert len(sizes) == 20
        assert max(sizes[10:]) <= max(sizes[2:10]) * 1.02 + 2, sizes


def test_five_opens_leak_nothing(tmp_path: Path) -> None:
    """Nothing that was allocated in this library, or on its behalf in a session, is out of reach at the end."""
    suppressions = tmp_path / "suppressions"
    # What ONNX Runtime makes once for a process, and keeps: it grows with no open.
    suppressions.write_text("leak:_dl_init\nleak:call_init\n")
    quiet = {"LSAN_OPTIONS": f"suppressions={suppressions}:print_suppressions=0", "ASAN_OPTIONS": "detect_leaks=1"}
    sanitize = ("-DPAHI_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Debug")
    soak(tmp_path, 5, 0, *sanitize, flags=("-fsanitize=address",), **quiet)
