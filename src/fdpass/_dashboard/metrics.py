"""`/metrics`: the figures of all servers in the text formats of Prometheus and OpenMetrics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fdpass._dashboard.families import families
from fdpass._dashboard.http import Response
from fdpass._dashboard.server import Server


class Metrics(Collector):
    """Makes the text from the newest answers: a scrape asks no server anything.

    Args:
        servers: The servers.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._made: tuple[int, dict[str, Response]] = (0, {})

    def describe(self) -> Iterator[Metric]:
        """No family: the registry would otherwise collect once to learn the names."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """The families that the servers' answers fill."""
        answers = [(server.name, server.state, server.status) for server in self._servers]
        return families(answers)

    def response(self, number: int, accept: str) -> Response:
        """The text of one snapshot, which all scrapes of that second share.

        Args:
            number: Of the snapshot.
            accept: The header Accept, which chooses the format.
        """
        encode, kind = choose_encoder(accept)
        if self._made[0] != number:
            self._made = number, {}
        made = self._made[1]
        if kind not in made:
            made[kind] = Response(encode(self._registry), kind)
        return made[kind]
