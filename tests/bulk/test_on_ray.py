"""A Ray cluster of three nodes on this machine. One of them is killed in mid-run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from pahi_rt.bulk.crew import Job
from pahi_rt.bulk.job import Run
from pahi_rt.bulk.prompt_files import find_files
from pahi_rt.bulk.settings import Settings
from pahi_rt.bulk.store import open_store
from pahi_rt.errors import BundleError
from tests.bulk.conftest import Silent, contents

pytest.importorskip("ray")
ROWS = 10_000


def test_what_a_worker_needs(settings: Settings) -> None:
    from pahi_rt.bulk.on_ray import needs_of, room_for

    job = Job("emoji", "auto", 2, "out", settings, {})
    assert needs_of(job) == {"num_cpus": 2}
    assert room_for(needs_of(job), {"CPU": 7.0}) == 3
    on_gpu = replace(job, runtime="onnxruntime-cuda")
    assert room_for(needs_of(on_gpu), {"CPU": 64.0, "GPU": 8.0}) == 8
    assert room_for(needs_of(on_gpu), {"CPU": 64.0}) == 1


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three nodes with one core each; the first is where the driver is."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield made
    made.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_lost_node_loses_nothing(settings: Settings, cluster: Any, contract: Path, tmp_path: Path) -> None:
    from pahi_rt.bulk.local import LocalCrew
    from pahi_rt.bulk.on_ray import RayCrew

    source = tmp_path / "many.txt"
    source.write_text("".join(f"a cat {number}\n" for number in range(ROWS)))
    chosen = replace(settings, number_sample_per_shard=100)
    nodes = [cluster.add_node(num_cpus=1), cluster.add_node(num_cpus=1)]
    cluster.wait_for_nodes()

    watch = Silent()
    store = open_store(str(tmp_path / "ray"))
    job = Job(str(contract), "onnxruntime", 1, store.url, chosen, {})
    run = Run(find_files(str(source)), store, job, "incremental", False)
    killer = threading.Thread(target=kill_later, args=(cluster, nodes[0], tmp_path / "ray"))
    killer.start()
    outcome = run.finish(lambda: RayCrew(job, cluster.address), watch)
    killer.join()
    assert watch.losses
    assert (outcome.shards, outcome.successes) == (ROWS // 100, ROWS)

    alone = replace(job, output=str(tmp_path / "alone"))
    undisturbed = Run(find_files(str(source)), open_store(alone.output), alone, "incremental", False)
    undisturbed.finish(lambda: LocalCrew(alone, 1), Silent())
    assert contents(tmp_path / "ray") == contents(tmp_path / "alone")
    tables = [parquet.read_table(path, columns=["id"]) for path in (tmp_path / "ray").glob("*.parquet")]
    ids = [name for table in tables for name in table["id"].to_pylist()]
    assert len(ids) == len(set(ids)) == ROWS


def kill_later(cluster: Any, node: Any, out: Path) -> None:
    """Kill the node without a farewell, once some shards are whole."""
    while len(list(out.glob("*_stats.json"))) < 12:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_error_of_an_actor_is_our_own(settings: Settings, cluster: Any, contract: Path, tmp_path: Path) -> None:
    from pahi_rt.bulk.on_ray import RayCrew

    job = Job(str(contract), "onnxruntime", 1, str(tmp_path), replace(settings, bundle_sha256="0" * 64), {})
    crew = RayCrew(job, cluster.address, 1)
    try:
        with pytest.raises(BundleError) as caught:
            crew.wait(120)
    finally:
        crew.dismiss()
    assert caught.value.fix
