"""tunewise: find, by measurement, the lightest way to adapt a language model that meets the bar.

The public names load on first use, so that ``import tunewise`` stays light and never imports torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME_OF = {
    "decide": "tunewise.api",
    "check": "tunewise.api",
    "answer": "tunewise.api",
    "score": "tunewise.scoring.score",
    "compare": "tunewise.scoring.compare",
    "advise": "tunewise.advice.advise",
    "plan": "tunewise.forecast",
    "estimate": "tunewise.estimation.estimate",
    "bench": "tunewise.benchmarks.bench",
    "train": "tunewise.tuning",
    "export": "tunewise.exporting",
    "load_task": "tunewise.task",
    "Task": "tunewise.task",
    "Decision": "tunewise.decision",
    "TunewiseError": "tunewise.errors",
}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tunewise' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
