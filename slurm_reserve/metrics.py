"""The endpoint that Prometheus reads. It serves pictures that it was given, from threads of its own.

Whatever happens here neither holds up a cycle nor ends the daemon: who cannot be served is not served.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector

from slurm_reserve.meter import Kind, Metric, Picture, Rows, Spread
from slurm_reserve.site import Listen

MOST_AT_ONCE = 8  # who comes on top of them is turned away
PATIENCE = 5.0  # seconds that somebody may keep silent


class Exposed(Collector):
    """The last picture, as families that prometheus_client prints."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture  # replaced as a whole, never changed: it is read by other threads

    def collect(self) -> Iterator[Family]:
        """One family for each metric."""
        for metric, rows in self.picture:
            yield _family(metric, rows)


def _family(metric: Metric, rows: Rows) -> Family:
    labels = list(metric.labels)
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for values, held in rows.items():
            if isinstance(held, Spread):
                histogram.add_metric(list(values), _buckets(metric, held), held.total)
        return histogram
    kind = GaugeMetricFamily if metric.kind is Kind.GAUGE else CounterMetricFamily
    family = kind(metric.name, metric.help, labels=labels)
    for values, held in rows.items():
        if isinstance(held, float):
            family.add_metric(list(values), held)
    return family


def _buckets(metric: Metric, held: Spread) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    found, sum_so_far = [], 0
    for bound, count in zip([*map(str, metric.bounds), "+Inf"], held.counts, strict=True):
        sum_so_far += count
        found.append((bound, float(sum_so_far)))
    return found


def registry(exposed: Exposed) -> CollectorRegistry:
    """What is served: the picture, and the daemon's own CPU time, memory and open files."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    made.register(exposed)
    return made


class _Handler(MetricsHandler):
    """One request, from whoever; one that says nothing is not waited for."""

    timeout = PATIENCE


class _Server(socketserver.ThreadingTCPServer):
    """A thread for each request, few of them. (HTTPServer would ask the name service for our own name.)"""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, listen: Listen, exposed: Exposed) -> None:
        self.address_family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__((listen.address, listen.port), _Handler.factory(registry(exposed)))

    def process_request(self, request: Any, client_address: Any) -> None:
        """In a thread, or not at all."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Make room again, however it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody went away, or sent nonsense: no concern of ours."""


class Endpoint:
    """Listens at an address until it is closed."""

    def __init__(self, listen: Listen, picture: Picture) -> None:
        """Begin to serve. Raises OSError: the address is in use, or not this host's."""
        self.exposed = Exposed(picture)
        self._server = _Server(listen, self.exposed)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a request that is being answered may go on."""
        self._server.shutdown()
        self._server.server_close()
