"""A metric family in one expression, as the collectors of this folder write them.

The library's classes want two statements for each family that has labels, and its counters another
name than the one that is scraped; here the name is always the one that people will see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from peer.metrics.counts import Histogram

Values = Mapping[tuple[str, ...], float]
"""By the values of the labels, in their order."""


def gauge(name: str, said: str, values: float | Values, by: Sequence[str] = ()) -> Metric:
    """Something that rises and falls."""
    family = GaugeMetricFamily(name, said, labels=by)
    for labels, value in _labelled(values).items():
        family.add_metric(labels, value)
    return family


def counter(name: str, said: str, values: float | Values, by: Sequence[str] = ()) -> Metric:
    """Something that only rises; its name ends with `_total`."""
    assert name.endswith("_total"), name
    family = CounterMetricFamily(name, said, labels=by)
    for labels, value in _labelled(values).items():
        family.add_metric(labels, value)
    return family


def histogram(
    name: str, said: str, values: Histogram | Mapping[str, Histogram], by: str | None = None
) -> Metric:
    """How values are spread."""
    family = HistogramMetricFamily(name, said, labels=[] if by is None else [by])
    if isinstance(values, Histogram):
        family.add_metric([], bars(values.cumulative), values.total)
        return family
    for label, each in values.items():
        family.add_metric([label], bars(each.cumulative), each.total)
    return family


def bars(cumulative: Sequence[tuple[float, int]]) -> list[tuple[str, float]]:
    """Write the bounds as Prometheus does."""
    return [("+Inf" if isinf(bound) else f"{bound:g}", count) for bound, count in cumulative]


def one_of(chosen: str, known: Sequence[str]) -> Values:
    """1 for what is the case, and 0 for all else that might be."""
    return {(each,): float(each == chosen) for each in known}


def _labelled(values: float | Values) -> Values:
    return values if isinstance(values, Mapping) else {(): values}
