"""``/metrics``: names, types and values, read by the parser of prometheus_client and by promtool."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from fdpass._dashboard.metrics import Metrics
from fdpass._dashboard.state import silent, state_of

from ._metrics_table import table
from ._statuses import BOUNDS, old_status, status

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "examples" / "grafana" / "fdpass.json"
PAGE = ROOT / "docs" / "dashboard.md"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Answered:
    """Stands for a `Server` that has answered so."""

    def __init__(self, name, found):
        self.name = name
        self.status = found
        self.state = silent("it is gone") if found is None else state_of(found)


def text(*servers, accept=""):
    return Metrics(list(servers)).response(1, accept).body.decode()


def values(body, name):
    """The values of all samples of a name, by their labels."""
    return {
        tuple(sorted(sample.labels.items())): sample.value
        for family in parse(body)
        for sample in family.samples
        if sample.name == name
    }


BOTH = text(Answered("shop", status()), Answered("chat", None))


def one(name, **labels):
    return values(BOTH, name)[tuple(sorted({"server": "shop", **labels}.items()))]


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("fdpass_up", {}, 1),
        ("fdpass_ready", {}, 1),
        ("fdpass_server_info", {"app": "shop.main:app", "version": "0.1.0"}, 1),
        ("fdpass_uptime_seconds", {}, 3600),
        ("fdpass_stopping", {}, 0),
        ("fdpass_requests_total", {"class": "2xx"}, 990),
        ("fdpass_requests_total", {"class": "5xx"}, 4),
        ("fdpass_response_bytes_total", {}, 90000),
        ("fdpass_connections", {}, 20),
        ("fdpass_connections_limit", {}, 100),
        ("fdpass_connections_lost_total", {}, 3),
        ("fdpass_connections_recovered_total", {"outcome": "moved"}, 8),
        ("fdpass_worker_deaths_total", {"cause": "SIGKILL"}, 2),
        ("fdpass_worker_restarts_total", {}, 3),
        ("fdpass_reloads_total", {"outcome": "refused"}, 2),
        ("fdpass_workers", {"state": "ready"}, 2),
        ("fdpass_worker_lag_seconds", {"worker": "2"}, 0.0002),
        ("fdpass_backlog_connections", {"listener": "127.0.0.1:8000"}, 3),
        ("fdpass_wait_seconds_total", {}, 0.25),
        ("fdpass_request_duration_seconds_count", {}, 1000),
        ("fdpass_request_duration_seconds_sum", {}, 1.5),
        ("fdpass_request_duration_seconds_bucket", {"le": "0.0004"}, 6),
        ("fdpass_request_duration_seconds_bucket", {"le": "0.0008"}, 996),
        ("fdpass_request_duration_seconds_bucket", {"le": "104.8576"}, 996),
        ("fdpass_request_duration_seconds_bucket", {"le": "+Inf"}, 1000),
        ("fdpass_handoff_duration_seconds_bucket", {"le": "0.0001"}, 100),
    ],
)
def test_a_metric_has_its_value(name, labels, value):
    assert one(name, **labels) == value


def test_a_silent_server_has_two_metrics():
    lines = [line for line in BOTH.splitlines() if 'server="chat"' in line]
    assert lines == ['fdpass_up{server="chat"} 0.0', 'fdpass_ready{server="chat"} 0.0']


def test_names_and_helps_follow_the_conventions():
    for family in parse(BOTH):
        assert family.name.startswith("fdpass_")
        assert family.documentation.endswith((".", "1 or 0.")), family.name
        assert family.samples, family.name
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
            assert "server" in sample.labels


def test_a_server_that_counts_no_responses_has_the_metrics_that_it_can_have():
    found = text(Answered("shop", old_status()))
    assert values(found, "fdpass_connections")
    assert not values(found, "fdpass_requests_total")
    assert not values(found, "fdpass_worker_connections")


def test_the_buckets_are_those_of_the_status():
    ends = [dict(labels)["le"] for labels in values(BOTH, "fdpass_request_duration_seconds_bucket")]
    assert [float(end) for end in ends] == [*BOUNDS, float("inf")]


def test_openmetrics_is_sent_to_those_who_ask_for_it():
    response = Metrics([Answered("shop", status())]).response(1, OPENMETRICS)
    assert response.kind.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(response.body.decode())} >= {
        "fdpass_up",
        "fdpass_requests",
    }


def test_all_scrapes_of_a_snapshot_share_one_text():
    metrics = Metrics([Answered("shop", status())])
    assert metrics.response(1, "") is metrics.response(1, "")
    assert metrics.response(1, "") is not metrics.response(2, "")


def test_promtool_finds_nothing_to_say():
    if shutil.which("promtool") is None:
        pytest.skip("promtool, of the package prometheus, is not installed")
    found = subprocess.run(
        ["promtool", "check", "metrics"], input=BOTH, text=True, capture_output=True, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_the_grafana_dashboard_asks_for_metrics_that_there_are():
    known = {sample.name for family in parse(BOTH) for sample in family.samples}
    content = json.loads(EXAMPLE.read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in content["panels"] for target in panel.get("targets", ())]
    asked = set(re.findall(r"\bfdpass_\w+", " ".join(expressions)))
    assert asked
    assert asked <= known, asked - known


def test_the_table_of_metrics_is_made_from_the_metrics():
    if table() not in PAGE.read_text(encoding="utf-8"):
        pytest.fail("docs/dashboard.md is not what the code says; it has to have:\n\n" + table(), pytrace=False)
