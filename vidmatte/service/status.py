"""How the service is: health and metrics; and what it does by itself: removing what has expired."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import psutil
from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vidmatte._version import __version__
from vidmatte.service.context import Context

_LOG = logging.getLogger("vidmatte.service")
_EVERY_SECONDS = 60.0


class Expiry:
    """Calls everything in ``context.expiring`` once a minute."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._thread = threading.Thread(target=self._run, name="vidmatte-expiry")
        context.starting.append(self._thread.start)
        context.ending.append(self._thread.join)

    def run_once(self) -> None:
        """Remove what has expired; a failure is logged, and the rest goes on."""
        for step in self._context.expiring:
            try:
                step()
            except Exception as error:  # noqa: BLE001 (whatever it is, the others must not wait)
                _LOG.error("removing what has expired: %r", error)

    def _run(self) -> None:
        while not self._context.stopping.is_set():
            self.run_once()
            self._context.stopping.wait(_EVERY_SECONDS)


class _Gauges(Collector):
    """What is measured when someone asks."""

    def __init__(self, context: Context) -> None:
        self._context, self._process = context, psutil.Process()

    def describe(self) -> list[Metric]:
        """Nothing in advance, so that registering measures nothing."""
        return []

    def collect(self) -> Iterator[Metric]:
        """See ``prometheus_client.registry.Collector``."""
        context = self._context
        jobs = GaugeMetricFamily("vidmatte_jobs", "Jobs by state", labels=["state"])
        for state, count in _counts(context).items():
            jobs.add_metric([state], count)
        yield jobs
        facts = {
            "vidmatte_clips": ("Clips that are stored", context.clips.count()),
            "vidmatte_data_bytes": ("Bytes in the data folder", context.disk.used_bytes),
            "vidmatte_data_limit_bytes": ("Bytes allowed there", context.config.max_disk),
            "vidmatte_free_bytes": ("Bytes free on its disk", context.disk.free_bytes),
            "vidmatte_resident_bytes": ("Memory of the server", self._process.memory_info().rss),
        }
        for name, (text, value) in facts.items():
            yield GaugeMetricFamily(name, text, value=value)


def _counts(context: Context) -> dict[str, int]:
    """How many jobs there are in each state."""
    return {} if context.jobs is None else dict(context.jobs.counts())


class Metrics:
    """The numbers of one service, in a registry of its own."""

    def __init__(self, context: Context) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Gauges(context))
        self._requests = Counter(
            "vidmatte_requests", "Requests by method and status", ["method", "status"],
            registry=self.registry,
        )  # fmt: skip

    def answered(self, method: str, status: int) -> None:
        """Count an answer. Methods that do not exist are counted as one."""
        known = method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
        self._requests.labels(method if known else "other", str(status)).inc()


def router(context: Context) -> APIRouter:
    """The routes of health and metrics."""
    routes = APIRouter(prefix="/api", tags=["status"])

    @routes.get("/health")
    def health() -> Any:
        """Whether it runs, and how much it has to do. Needs no token."""
        counts = _counts(context)
        free = context.disk.free_bytes
        return {
            "status": "ok" if free >= context.config.min_free else "disk_full",
            "version": __version__,
            "queued": counts.get("queued", 0),
            "running": counts.get("running", 0),
            "free_bytes": free,
        }

    @routes.get("/metrics", response_class=Response)
    def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return routes
