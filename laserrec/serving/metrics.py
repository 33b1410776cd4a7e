"""What Prometheus reads at /metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of one service; several services of one process have separate ones."""

    def __init__(self) -> None:
        """Register everything."""
        self.registry = CollectorRegistry()
        own = self.registry
        ProcessCollector(registry=own)  # resident memory and processor seconds
        self.requests = Histogram(
            "laserrec_request_seconds", "Time of requests.", ["method", "route", "status"], buckets=SECONDS, registry=own
        )
        self.phases = Histogram(
            "laserrec_phase_seconds", "Time of a request's phases: queue, engine, store.", ["phase"], buckets=SECONDS, registry=own
        )
        self.passes = Histogram("laserrec_pass_histories", "Histories of one pass.", buckets=SIZES, registry=own)
        self.waiting = Gauge("laserrec_queue_requests", "Histories that wait.", registry=own)
        self.waiting_tokens = Gauge("laserrec_queue_tokens", "Tokens that wait.", registry=own)
        self.bounds = Gauge("laserrec_bound", "Configured bounds of queue and caches.", ["of"], registry=own)
        self.refused = Counter("laserrec_refused", "Requests that were not answered, by cause.", ["cause"], registry=own)
        self.embeddings = Gauge("laserrec_embeddings", "Histories whose embeddings are kept.", registry=own)
        self.masks = Gauge("laserrec_filters", "Filters whose matching items are kept.", registry=own)
        self.records = Gauge("laserrec_records", "Answers that wait to be written for attribution.", registry=own)
        self.cache = Counter("laserrec_embedding_lookups", "Histories looked up among the kept ones.", ["result"], registry=own)
        self.experts = Counter("laserrec_expert_histories", "Histories that each query expert read.", ["expert"], registry=own)
        self.reasons = Counter("laserrec_recommended_items", "Recommended items, by reason.", ["reason"], registry=own)
        self.events = Counter("laserrec_events", "Events, by what became of them.", ["result"], registry=own)
        self.items = Gauge("laserrec_items", "Items of the catalogue.", registry=own)
        self.change = Gauge("laserrec_items_change", "Number of the last change of items that this replica follows.", registry=own)
        self.unrecorded = Counter("laserrec_recommendations_not_recorded", "Answers that were not kept for attribution.", registry=own)
