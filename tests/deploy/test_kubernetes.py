"""deploy/kubernetes: valid by Kubernetes' schemas, and its parts fit each other and the service."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pahi_rt.serve.limits import GRACE
from tests.cli.verbs import parse
from tests.deploy.conftest import DEPLOY, check, documents
from tests.deploy.test_container import instruction
from tests.serve.conftest import Running

FOLDER = DEPLOY / "kubernetes"
LABELS = {"app.kubernetes.io/name": "pahi-rt"}
OWN_KINDS = {"ScaledObject", "ServiceMonitor"}
"""Of operators; no schema of Kubernetes has them."""


def resources() -> Iterator[Any]:
    """Of the base and the components, each from its own file."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from documents(path.read_text())


def resource(kind: str) -> Any:
    (found,) = [resource for resource in resources() if resource["kind"] == kind]
    return found


def container() -> Any:
    (found,) = resource("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def test_the_schemas_take_it() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    checked = [resource for resource in resources() if resource["kind"] not in OWN_KINDS]
    assert {one["kind"] for one in checked} == {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service"}
    for one in checked:
        validator.validate(one, validator.latest_version(), strict=True)


def build(folder: Path, *components: str) -> list[Any]:
    """What kustomize makes of the base and components."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    shutil.copytree(FOLDER, folder / "kubernetes")
    names = "".join(f"- kubernetes/components/{name}\n" for name in components)
    (folder / "kustomization.yaml").write_text(f"resources: [kubernetes/base]\ncomponents:\n{names}")
    return documents(check(kubectl, "kustomize", str(folder)))


def test_kustomize_joins_the_components(tmp_path: Path) -> None:
    built = {one["kind"]: one for one in build(tmp_path, "autoscaling", "monitoring", "api-keys")}
    assert built.keys() == {one["kind"] for one in resources()}
    assert "replicas" not in built["Deployment"]["spec"]
    pod = built["Deployment"]["spec"]["template"]["spec"]
    keys = parse(["serve", *pod["containers"][0]["args"]]).params["api_key_file"]
    (mount,) = [one for one in pod["containers"][0]["volumeMounts"] if one["name"] == "keys"]
    assert str(keys.parent) == mount["mountPath"]
    assert "authorization" in built["ServiceMonitor"]["spec"]["endpoints"][0]


def test_keys_need_no_monitoring(tmp_path: Path) -> None:
    assert "ServiceMonitor" not in {one["kind"] for one in build(tmp_path, "api-keys")}


def test_every_selector_means_these_pods() -> None:
    """An empty one would mean none, or all of the namespace."""
    deployment = resource("Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"] == LABELS
    (spread,) = deployment["template"]["spec"]["topologySpreadConstraints"]
    budget, monitor = resource("PodDisruptionBudget")["spec"], resource("ServiceMonitor")["spec"]
    selectors = [deployment["selector"], spread["labelSelector"], budget["selector"], monitor["selector"]]
    selectors.append(resource("NetworkPolicy")["spec"]["podSelector"])
    assert [one["matchLabels"] for one in selectors] == [LABELS] * len(selectors)
    assert resource("Service")["spec"]["selector"] == resource("Service")["metadata"]["labels"] == LABELS
    assert resource("ScaledObject")["spec"]["scaleTargetRef"]["name"] == resource("Deployment")["metadata"]["name"]


def test_every_port_is_the_service_s() -> None:
    (port,) = container()["ports"]
    assert str(port["containerPort"]) == instruction("EXPOSE")
    probes = [container()[f"{name}Probe"]["httpGet"]["port"] for name in ("startup", "readiness", "liveness")]
    (outside,) = resource("Service")["spec"]["ports"]
    (allowed,) = resource("NetworkPolicy")["spec"]["ingress"][0]["ports"]
    (scraped,) = resource("ServiceMonitor")["spec"]["endpoints"]
    assert {*probes, outside["targetPort"], outside["name"], allowed["port"], scraped["port"]} == {port["name"]}


def test_every_path_is_a_route(gated: Running) -> None:
    probes = [container()[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")]
    for path in [*probes, resource("ServiceMonitor")["spec"]["endpoints"][0]["path"]]:
        assert gated.client("GET", path, headers={"Host": "10.0.0.7:8000"}).status == 200


def test_its_threads_are_its_cores() -> None:
    settings = parse([*instruction("ENTRYPOINT")[1:], *container()["args"]]).params
    assert settings["threads"] == int(container()["resources"]["limits"]["cpu"])


def test_it_may_finish_what_it_accepted() -> None:
    pod = resource("Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > container()["lifecycle"]["preStop"]["sleep"]["seconds"] + GRACE


def test_it_meets_the_restricted_pod_security_standard() -> None:
    pod, own = resource("Deployment")["spec"]["template"]["spec"], container()["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False and own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True


def test_it_scales_before_requests_are_refused() -> None:
    from pahi_rt.serve.limits import PATIENCE

    wait, drawing = [trigger["metadata"] for trigger in resource("ScaledObject")["spec"]["triggers"]]
    assert re.search(r"\bpahi_queue_wait_estimate_seconds\b", wait["query"]) and float(wait["threshold"]) < PATIENCE
    assert re.search(r"\bpahi_batch_seconds_total\b", drawing["query"]) and float(drawing["threshold"]) < 1
