"""The manifests of examples/fleet fit the schemas of Kubernetes (from kubernetes-validate), and one another."""

import copy
import re
from pathlib import Path

import pytest

from fdpass.serve.shared.config import SETTINGS
from fdpass.serve.shared.setting import flag

schema = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed (extra dev)")
yaml = pytest.importorskip("yaml", reason="PyYAML, which kubernetes-validate needs, is not installed")

MANIFESTS = Path(__file__).parents[3] / "examples" / "fleet" / "kubernetes.yaml"
VERSION = "1.27"  # the oldest version that the page names


def documents():
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFESTS.read_text(encoding="utf-8"))}


def validate(document, version=VERSION):
    schema.validate(document, version, strict=True)


def container(deployment):
    (one,) = deployment["spec"]["template"]["spec"]["containers"]
    return one


@pytest.mark.parametrize("version", [VERSION, schema.latest_version()])
@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget"])
def test_a_manifest_fits_the_schema(kind, version):
    validate(documents()[kind], version)


BREAKS = {
    "a misspelt field": lambda spec: spec["strategy"].update(rolingUpdate={}),
    "a misspelt field of a probe": lambda spec: container({"spec": spec})["readinessProbe"].update(period=1),
    "a missing selector": lambda spec: spec.pop("selector"),
    "a number as text": lambda spec: spec.update(replicas="3"),
    "a command that is no list": lambda spec: container({"spec": spec}).update(command="fdpass serve"),
    "a hook without an action's form": lambda spec: container({"spec": spec})["lifecycle"].update(
        preStop={"exec": "sleep 10"}
    ),
}


@pytest.mark.parametrize("broken", BREAKS)
def test_a_broken_manifest_is_rejected(broken):
    """The tests above can fail."""
    deployment = copy.deepcopy(documents()["Deployment"])
    BREAKS[broken](deployment["spec"])
    with pytest.raises(schema.ValidationError):
        validate(deployment)


def test_the_manifests_fit_one_another():
    """What a schema cannot see: labels, names of ports, and times."""
    deployment, service, budget = documents().values()
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = (deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"])
    assert (*selectors, budget["spec"]["selector"]["matchLabels"]) == (labels,) * 3
    one, pod = container(deployment), deployment["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    words = [*one["command"], *one["args"]]
    assert words[words.index("--bind") + 1] == f"0.0.0.0:{ports[service['spec']['ports'][0]['targetPort']]}"
    probe = one["readinessProbe"]["httpGet"]
    assert (probe["path"], words[words.index("--dashboard") + 1]) == ("/readyz", f"0.0.0.0:{ports[probe['port']]}")
    waits = int(one["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waits + int(words[words.index("--graceful-timeout") + 1])
    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_the_command_has_only_known_options():
    one = container(documents()["Deployment"])
    used = {word for word in [*one["command"], *one["args"]] if re.match(r"--\w", word)}
    assert used <= {flag(each) for each in SETTINGS}
