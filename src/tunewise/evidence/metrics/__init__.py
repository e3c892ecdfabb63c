"""How one answer is scored against its references: one file per metric.

Every metric takes any text without raising, and gives a value in [0, 1]; the best reference counts.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tunewise.evidence.metrics.accuracy import accuracy
from tunewise.evidence.metrics.exact import exact
from tunewise.evidence.metrics.json_fields import json_fields
from tunewise.evidence.metrics.metric import Metric, MetricContext
from tunewise.evidence.metrics.token_f1 import token_f1

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", "binary", accuracy),
            Metric("exact", "binary", exact),
            Metric("token_f1", "graded", token_f1),
            Metric("json_fields", "graded", json_fields),
        )
    }
)

__all__ = ["METRICS", "Metric", "MetricContext"]
