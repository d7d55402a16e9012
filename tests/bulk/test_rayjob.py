"""The job for KubeRay, checked against the schema of its resource.

tests/data/kuberay-rayjob.json.gz is the schema of version v1 from ray-operator/config/crd/bases/ray.io_rayjobs.yaml of
github.com/ray-project/kuberay (Apache-2.0) at feeaf72f, without its descriptions.
"""

from __future__ import annotations

import gzip
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.verbs import parse
from tests.conftest import DATA

ROOT = Path(__file__).parents[2]


def strict(schema: Any) -> Any:
    """The schema without room for unknown fields, which Kubernetes would drop without a word."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: strict(part) for name, part in schema.items()}
    if isinstance(kept.get("properties"), dict) and not kept.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    if kept.get("x-kubernetes-int-or-string"):
        kept.pop("type", None)
    return kept


@pytest.fixture(scope="module")
def job() -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / "deploy" / "ray" / "rayjob.yaml").read_text())


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(gzip.decompress((DATA / "kuberay-rayjob.json.gz").read_bytes()))
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes' own, which the resource leaves open
    return jsonschema.Draft202012Validator(strict(schema))


def test_it_fits_the_schema(job: Any, validator: Any) -> None:
    assert [error.message for error in validator.iter_errors(job)] == []


def test_a_wrong_field_would_be_noticed(job: Any, validator: Any) -> None:
    spoiled = json.loads(json.dumps(job))
    spoiled["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replica"] = 4
    spoiled["spec"]["ttlSecondsAfterFinished"] = "soon"
    assert len(list(validator.iter_errors(spoiled))) == 2


def test_its_command_can_be_typed(job: Any) -> None:
    name, *words = shlex.split(job["spec"]["entrypoint"])
    assert name == "pahi-rt"
    parse(words)
    assert words[-3:-1] == ["--distributor", "ray"]
