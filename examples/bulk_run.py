"""Draw a table of prompts, resumably, and read the pictures back.

python bulk_run.py out
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as parquet
import webdataset

SUBJECTS = ("a grinning cat", "panda", "red apple", "rocket", "octopus", "guitar")


def main(folder: str) -> None:
    table = Path(folder).with_suffix(".csv")
    with table.open("w", newline="") as file:
        rows = [("uid", "caption"), *((f"row-{number}", subject) for number, subject in enumerate(SUBJECTS))]
        csv.writer(file).writerows(rows)
    command = ["pahi-rt", "bulk", str(table), folder, "--caption-col", "caption", "--id-col", "uid", "-n", "2"]
    command += ["--output-format", "webdataset", "--number-sample-per-shard", "8"]
    subprocess.run(command, check=True)
    subprocess.run(command, check=True)  # given again, it finds every shard whole, and draws nothing
    subprocess.run(["pahi-rt", "bulk", "verify", folder, "-k", "3"], check=True)

    tars = sorted(map(str, Path(folder).glob("*.tar")))
    for sample in webdataset.WebDataset(tars, shardshuffle=False).decode("pil").slice(3):
        print(sample["__key__"], sample["png"].size, sample["txt"])
    facts = parquet.read_table(sorted(Path(folder).glob("*.parquet")))
    print(facts.select(["id", "caption", "seed", "status"]).slice(0, 3).to_pylist())


if __name__ == "__main__":
    main(*sys.argv[1:])
