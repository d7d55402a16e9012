"""An hour of the service with clients of all kinds, by hand: python -m tests.serve.soak --seconds 3600 -o soak.json

Some ask and wait, some type, some leave, some are rude, and each minute more comes at once than the queue holds. At the
end: what became of the requests, whether any picture differed from `Pipeline`'s, and memory, open files and threads.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image
from websockets.sync.client import connect

from pahi_rt import Pipeline
from tests.serve.conftest import Client, serving, until

PROMPTS = ("a red heart", "a grinning cat", "rocket", "an octopus", "a zorblax in the rain")
SEEDS = 8
SAMPLED = 10.0
"""Seconds between two looks at the process."""
SETTLED = 120.0
"""Seconds after which memory should not grow any more."""
PATIENCE = 300.0
"""Seconds that a client waits for an answer on a busy machine."""
MESSY = (OSError, http.client.HTTPException)


@dataclass
class Tally:
    """What the clients saw."""

    counts: Counter[str] = field(default_factory=Counter)
    pictures: dict[tuple[str, int], set[bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def keep(self, prompt: str, seed: int, file: bytes) -> None:
        pixels = Image.open(io.BytesIO(file)).tobytes()
        with self.lock:
            self.counts["pictures"] += 1
            self.pictures.setdefault((prompt, seed), set()).add(pixels)

    def differing(self, bundle: str) -> int:
        """How many of the pictures that were asked for came in a form that `Pipeline` does not draw."""
        pipeline = Pipeline.load(bundle)
        return sum(found != {pipeline(p, seed=s).tobytes()} for (p, s), found in self.pictures.items())


def ask(client: Client, tally: Tally, chance: random.Random) -> None:
    prompt, seed = chance.choice(PROMPTS), chance.randrange(SEEDS)
    reply = client("POST", "/v1/pictures", {"prompt": prompt, "seed": seed}, timeout=PATIENCE)
    tally.count(f"/v1/pictures {reply.status}")
    if reply.status == 200:
        tally.keep(prompt, seed, reply.body)


def ask_as_openai(client: Client, tally: Tally, chance: random.Random) -> None:
    prompt, seed = chance.choice(PROMPTS), chance.randrange(SEEDS)
    body = {"prompt": prompt, "seed": seed, "n": 1, "stream": chance.random() < 0.5}
    reply = client("POST", "/v1/images/generations", body, timeout=PATIENCE)
    tally.count(f"/v1/images/generations {reply.status}")
    if reply.status == 200:
        text = reply.body.decode()
        data = json.loads(text.rpartition("data: ")[2]) if body["stream"] else json.loads(text)["data"][0]
        tally.keep(prompt, seed, base64.b64decode(data["b64_json"]))


def type_live(client: Client, tally: Tally, chance: random.Random) -> None:
    prompt, seed = chance.choice(PROMPTS), chance.randrange(SEEDS)
    with connect(f"ws://127.0.0.1:{client.port}/v1/live", compression=None) as connection:
        for length in range(1, len(prompt) + 1):
            connection.send(json.dumps({"id": length, "prompt": prompt[:length], "seed": seed}))
            time.sleep(0.1)
        while (answer := json.loads(connection.recv(PATIENCE)))["id"] < len(prompt):
            for _ in answer.get("pictures", ()):
                connection.recv(PATIENCE)
        if "error" in answer:
            tally.count(f"/v1/live {answer['error']['status']}")
            return
        tally.count("/v1/live 200")
        file = connection.recv(PATIENCE)
        assert isinstance(file, bytes)
        tally.keep(prompt, seed, file)


def leave(client: Client, tally: Tally, chance: random.Random) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=PATIENCE)
    connection.request("POST", "/v1/pictures", json.dumps({"prompt": chance.choice(PROMPTS), "count": 4}))
    time.sleep(chance.random() / 2)
    connection.close()
    tally.count("left")


def be_rude(client: Client, tally: Tally, chance: random.Random) -> None:
    said = (
        b"GET /v1/models HTTP/1.1\r\nHost: 127",
        b"POST /v1/pictures HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n{",
        b"POST /v1/pictures HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nnot json!",
        b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00" + chance.randbytes(40),
    )
    with socket.create_connection(("127.0.0.1", client.port)) as connection:
        connection.sendall(chance.choice(said))
        time.sleep(chance.random() * 3)
    tally.count("rude")


def ask_too_much(client: Client, tally: Tally, chance: random.Random) -> None:
    """More pictures at once than the queue holds."""

    def one(number: int) -> None:
        body = {"prompt": PROMPTS[number % len(PROMPTS)], "seed": 0, "count": 16, "format": "jpeg"}
        try:
            tally.count(f"burst {client('POST', '/v1/pictures', body, timeout=PATIENCE).status}")
        except MESSY as error:
            tally.count(f"burst lost: {type(error).__name__}")

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(one, range(16)))


Doing = Callable[[Client, Tally, random.Random], None]
KINDS: tuple[tuple[Doing, float], ...] = (
    (ask, 0.7),
    (ask_as_openai, 3.0),
    (type_live, 3.0),
    (leave, 4.0),
    (be_rude, 2.0),
    (ask_too_much, 60.0),
)
"""What clients do, and the mean seconds between two times."""


def go_on(doing: Doing, pause: float, client: Client, tally: Tally, over: threading.Event) -> None:
    chance = random.Random(doing.__name__)
    while not over.wait(chance.expovariate(1 / pause)):
        try:
            doing(client, tally, chance)
        except Exception as error:
            tally.count(f"{doing.__name__} lost: {type(error).__name__}")


def look(pid: int) -> dict[str, int]:
    """Resident memory in KiB, open files and threads of a process and those that it started."""
    processes = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    status = [Path(f"/proc/{one}/status").read_text() for one in processes]

    def total(name: str) -> int:
        return sum(int(line.split()[1]) for text in status for line in text.splitlines() if line.startswith(name))

    files = sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in processes)
    return {"rss_kib": total("VmRSS:"), "files": files, "threads": total("Threads:")}


def soak(seconds: float, slowness: float, options: Sequence[str]) -> dict[str, Any]:
    tally, over, samples = Tally(), threading.Event(), []
    with serving("emoji", *options, wait=False) as command, ThreadPoolExecutor(len(KINDS)) as clients:
        until(lambda: any("ready: " in line for line in command.log), PATIENCE)
        began = time.monotonic()
        for doing, pause in KINDS:
            clients.submit(go_on, doing, pause * slowness, command.client, tally, over)
        while time.monotonic() - began < seconds:
            time.sleep(SAMPLED)
            samples.append({"s": round(time.monotonic() - began), **look(command.process.pid)})
            print(json.dumps(samples[-1] | {"so far": tally.counts}), file=sys.stderr, flush=True)
        over.set()
        clients.shutdown()
        unfinished = command.client.metric("pahi_num_images_waiting")
        time.sleep(15)  # what is half sent is given up
        at_rest = look(command.process.pid)
        command.process.terminate()
        code = command.process.wait(60)
    settled = [sample for sample in samples if sample["s"] >= min(SETTLED, seconds / 4)]
    return {
        "seconds": seconds,
        "options": list(options),
        "counts": dict(sorted(tally.counts.items())),
        "pictures_compared": len(tally.pictures),
        "pictures_differing": tally.differing("emoji"),
        "waiting_at_the_end": unfinished,
        "settled": settled[0],
        "most": {name: max(sample[name] for sample in settled) for name in ("rss_kib", "files", "threads")},
        "last": settled[-1],
        "at_rest": at_rest,
        "exit_code": code,
        "tracebacks": sum("Traceback" in line for line in command.log),
        "samples": samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--slowness", type=float, default=1, help="a larger number asks for less")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments, options = parser.parse_known_args()
    report = soak(arguments.seconds, arguments.slowness, options)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({name: value for name, value in report.items() if name != "samples"}, indent=1))


if __name__ == "__main__":
    main()
