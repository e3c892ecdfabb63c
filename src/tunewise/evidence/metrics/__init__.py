"""How one answer is scored against its references: one file per metric.

Every metric takes any text without raising, and gives a value in [0, 1]; the best reference counts.
``task_metric.METRIC_NAMES`` is the list of names, METRICS has the function for each.
"""

from collections.abc import Mapping
from types import MappingProxyType

from tunewise.evidence.metrics.accuracy import accuracy, macro_f1
from tunewise.evidence.metrics.choices import choices
from tunewise.evidence.metrics.chrf import chrf
from tunewise.evidence.metrics.exact import exact
from tunewise.evidence.metrics.json_fields import json_fields
from tunewise.evidence.metrics.json_schema import json_schema
from tunewise.evidence.metrics.json_schema import summary as json_schema_summary
from tunewise.evidence.metrics.markdown import markdown
from tunewise.evidence.metrics.metric import Metric, MetricContext, Scored
from tunewise.evidence.metrics.numeric import numeric
from tunewise.evidence.metrics.own_metric import own_metric
from tunewise.evidence.metrics.prepared import judged, style
from tunewise.evidence.metrics.regex import regex
from tunewise.evidence.metrics.rouge_l import rouge_l
from tunewise.evidence.metrics.semantic import semantic
from tunewise.evidence.metrics.sql import sql
from tunewise.evidence.metrics.token_f1 import token_f1
from tunewise.evidence.metrics.xml_schema import xml_schema
from tunewise.task import Task
from tunewise.task_metric import OwnOptions, is_own_metric, options_of

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric("accuracy", "binary", accuracy, summary=macro_f1),
            Metric("exact", "binary", exact),
            Metric("token_f1", "graded", token_f1),
            Metric("json_fields", "graded", json_fields),
            Metric("rouge_l", "graded", rouge_l),
            Metric("chrf", "graded", chrf),
            Metric("numeric", "binary", numeric, beyond=("error",)),
            Metric("semantic", "graded", semantic),
            Metric("json_schema", "binary", json_schema, needs_reference=False, summary=json_schema_summary),
            Metric("xml_schema", "binary", xml_schema, needs_reference=False),
            Metric("markdown", "binary", markdown, needs_reference=False),
            Metric("regex", "binary", regex, needs_reference=False),
            Metric("sql", "binary", sql, needs_reference=False),
            Metric("choices", "binary", choices, needs_reference=False),
            Metric("style", "binary", style, needs_reference=False),
            Metric("judge", "binary", judged, needs_reference=False, beyond=("level_",)),
        )
    }
)


def metric_named(name: str, options: object = None) -> Metric:
    """The metric of this name; for ``python:module:function`` the user's own. Raises KeyError otherwise."""
    if is_own_metric(name):
        return own_metric(name, options if isinstance(options, OwnOptions) else OwnOptions())
    return METRICS[name]


def metric_of(task: Task) -> Metric:
    """The metric of a task, with its options."""
    return metric_named(task.metric, options_of(task.metric, task.metric_options))


__all__ = ["METRICS", "Metric", "MetricContext", "Scored", "metric_named", "metric_of"]
