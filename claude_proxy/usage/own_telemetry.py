"""The proxy's own traces and metrics, by OpenTelemetry's SDK, to the collector in config.yaml. Off unless ``own`` is true.

The names of attributes are those of OpenTelemetry's conventions for generative AI, where these have one.
"""

from __future__ import annotations

import asyncio
import importlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from claude_proxy import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_proxy.config.telemetry import Telemetry
    from claude_proxy.usage.record import Record

SERVICE = "claude-proxy"
SPAN = "messages"
# How often the metrics are sent, in milliseconds, and how long a stop waits for the last ones.
METRICS_MILLISECONDS = 15_000
CLOSE_MILLISECONDS = 2_000
SEND_SECONDS = 10
NANOSECONDS = 10**9


class OwnTelemetry:
    """Sends one span and some counts for each record, in threads of the SDK. One per process and collector."""

    def __init__(self, collector: Telemetry) -> None:
        # The SDK is imported only where it is used.
        trace, metrics = (importlib.import_module(f"opentelemetry.sdk.{name}") for name in ("trace", "metrics"))
        trace_export = importlib.import_module("opentelemetry.sdk.trace.export")
        metrics_export = importlib.import_module("opentelemetry.sdk.metrics.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
        exporter = "opentelemetry.exporter.otlp.proto.http"
        span_exporter = importlib.import_module(f"{exporter}.trace_exporter").OTLPSpanExporter
        metric_exporter = importlib.import_module(f"{exporter}.metric_exporter").OTLPMetricExporter
        self.collector = collector
        headers = {name: value.reveal() for name, value in collector.headers}
        # Nothing of the environment: its variables may hold what the operator did not mean for this collector.
        resource = resources.Resource({"service.name": SERVICE, "service.version": __version__})

        def made(kind: Any, signal: str) -> Any:
            return kind(endpoint=f"{collector.url}/v1/{signal}", headers=headers, timeout=SEND_SECONDS)

        self._traces = trace.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._traces.add_span_processor(trace_export.BatchSpanProcessor(made(span_exporter, "traces")))
        self._tracer = self._traces.get_tracer(SERVICE, __version__)
        reader = metrics_export.PeriodicExportingMetricReader(
            made(metric_exporter, "metrics"), export_interval_millis=METRICS_MILLISECONDS
        )
        self._metrics = metrics.MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        meter = self._metrics.get_meter(SERVICE, __version__)
        self._tokens = meter.create_counter("gen_ai.client.token.usage", "{token}", "Tokens, as the providers report them")
        self._duration = meter.create_histogram("gen_ai.client.operation.duration", "s", "Duration of requests")
        self._first_byte = meter.create_histogram("gen_ai.server.time_to_first_token", "s", "Time to the first byte")
        self._cost = meter.create_counter("claude_proxy.cost", "USD", "Cost of requests, where a price is known")
        self._status = importlib.import_module("opentelemetry.trace").StatusCode.ERROR

    def record(self, record: Record) -> None:
        """Add a finished request."""
        names = attributes(record)
        begin = int(record.at * NANOSECONDS)
        span = self._tracer.start_span(SPAN, start_time=begin, attributes=names | span_attributes(record))
        if record.error or record.status >= 500:
            span.set_status(self._status, record.error)
        span.end(begin + int(record.seconds * NANOSECONDS))
        self._duration.record(record.seconds, names)
        self._first_byte.record(record.first_byte_seconds, names)
        usage = record.usage
        kinds = {"input": usage.input, "output": usage.output, "cache_read": usage.cache_read, "cache_write": usage.cache_write}
        for kind, count in kinds.items():
            if count:
                self._tokens.add(count, names | {"gen_ai.token.type": kind})
        if record.cost:
            self._cost.add(record.cost / 10**6, names)

    def close(self) -> None:
        """Send what has not been sent. Waits for the collector, so it needs a thread."""
        for provider in (self._traces, self._metrics):
            with suppress(Exception):  # the collector may be away, and nothing can be done about that now
                provider.force_flush(CLOSE_MILLISECONDS)
                provider.shutdown()


class ConfiguredTelemetry:
    """The own telemetry as config.yaml turns it on; a changed collector applies to the next records."""

    def __init__(self, collector: Callable[[], Telemetry | None]) -> None:
        self._collector = collector
        self._own: OwnTelemetry | None = None

    def record(self, records: Sequence[Record]) -> None:
        """Send the records, if the own telemetry is turned on."""
        collector = self._collector()
        before = self._own
        if before is not None and before.collector != collector:
            self._own = None
            asyncio.get_running_loop().run_in_executor(None, before.close)
        if collector is None or not collector.own:
            return
        own = self._own = self._own or OwnTelemetry(collector)
        for record in records:
            own.record(record)

    async def close(self) -> None:
        """Send what has not been sent."""
        if self._own is not None:
            await asyncio.to_thread(self._own.close)


def attributes(record: Record) -> dict[str, Any]:
    """Return the attributes of a request's metrics: few values each, and no name that a client made up."""
    provider, _, model = record.served.partition("/")
    found = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.response.model": model,
        "user.id": record.user,
        "http.response.status_code": record.status,
        "error.type": record.error,
        "claude_proxy.credential": record.credential,
        "claude_proxy.rule": record.rule,
        "claude_proxy.project": record.project,
    }
    return {name: value for name, value in found.items() if value != ""}


def span_attributes(record: Record) -> dict[str, Any]:
    """Return what the span of a request has beside the attributes of the metrics."""
    found: dict[str, Any] = {
        "gen_ai.request.model": record.requested,
        "gen_ai.usage.input_tokens": record.usage.input,
        "gen_ai.usage.output_tokens": record.usage.output,
        "claude_proxy.usage.cache_read_tokens": record.usage.cache_read,
        "claude_proxy.usage.cache_write_tokens": record.usage.cache_write,
        "claude_proxy.first_byte_seconds": record.first_byte_seconds,
        "claude_proxy.groups": list(record.groups),
        "claude_proxy.failovers": list(record.failovers),
        "claude_proxy.counts_tokens": record.counts_tokens,
    }
    return found | ({"claude_proxy.cost_usd": record.cost / 10**6} if record.cost is not None else {})
