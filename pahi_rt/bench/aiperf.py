"""AIPerf, in an environment of its own: asks a service as OpenAI's clients do, and tells what came back."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from pahi_rt.bench.peers.process import HERE, find_python
from pahi_rt.bench.peers.serving import PROMPTS
from pahi_rt.errors import PahiError

PINS = "aiperf.txt"
OK, REFUSED = 200, 429
_GRACE = 120
"""Seconds that AIPerf waits for answers after its last request."""
_NO_ANSWER = 0


@dataclass(frozen=True)
class Request:
    """One request, as its client saw it."""

    began: float
    """Seconds since the epoch."""
    ended: float
    """AIPerf does not tell when an error came; then it is when the request began."""
    status: int
    """HTTP status of the answer; 0 if there was none."""

    @property
    def ms(self) -> float:
        """From the first byte of the request to the last of the answer."""
        return 1000 * (self.ended - self.began)


def version() -> str:
    """Name and version of what sends the requests."""
    return "AIPerf " + (HERE / PINS).read_text().strip().rpartition("==")[2]


def offer(url: str, model: str, seconds: float, folder: Path, **load: float | str) -> list[Request]:
    """Send requests for a while, and wait for their answers. `load` are more options of `aiperf profile`.

    `folder` is empty, and holds AIPerf's files afterwards. Raises PahiError if AIPerf cannot be installed or fails.
    """
    _write_inputs(folder)
    options: dict[str, float | str] = {
        "url": url,
        "model": model,
        "endpoint-type": "image_generation",
        "tokenizer": str(folder),
        "input-file": str(folder / "prompts.jsonl"),
        "custom-dataset-type": "single_turn",
        "benchmark-duration": seconds,
        "benchmark-grace-period": _GRACE,
        "workers-max": 1,
        "record-processors": 1,
        "random-seed": 1,
        "ui": "none",
        "export-level": "records",
        "artifact-dir": str(folder / "out"),
        **load,
    }
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    _run(["profile", *words, "--no-gpu-telemetry", "--no-server-metrics"])
    lines = (folder / "out" / "profile_export.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted(map(read_record, map(json.loads, lines)), key=lambda request: request.began)


def read_record(record: Mapping[str, Any]) -> Request:
    """A line of AIPerf's profile_export.jsonl."""
    times, error = record["metadata"], record.get("error")
    status = OK if error is None and not times["was_cancelled"] else (error or {}).get("code") or _NO_ANSWER
    return Request(times["request_start_ns"] / 1e9, times["request_end_ns"] / 1e9, status)


def _write_inputs(folder: Path) -> None:
    """Prompts, and a tokenizer that costs nothing: AIPerf counts tokens, and would fetch one from a hub."""
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"text": prompt}) + "\n" for prompt in PROMPTS))
    Tokenizer(WordLevel({"?": 0}, unk_token="?")).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    (folder / "config.json").write_text('{"model_type": "clip"}')


def _run(words: Sequence[str]) -> None:
    # With this set, AIPerf takes the folder of its tokenizer for the name of a repository.
    offline = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in (*offline, "PYTHONPATH")}
    program = find_python(PINS).with_name("aiperf")
    done = subprocess.run([str(program), *words], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        last = (done.stdout + done.stderr).strip()[-600:]
        raise PahiError(f"AIPerf failed: {last}", fix=f"see {program} profile --help")
