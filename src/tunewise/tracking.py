"""A training run's figures in MLflow, beside the run's own folder. Off unless asked for; extra ``mlflow``.

MLflow's own usage reports are switched off before it is imported: nothing is sent but to the store named.
"""

import importlib.util
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tunewise.errors import SettingError, StoreError
from tunewise.progress import READING, Progress

SECONDS = 2.0  # between two writes: a store on disk takes a few milliseconds for one
STEP_FIGURES = (
    "loss", "tokens_per_second", "computed_tokens_per_second", "memory_bytes", "held_out_loss",
)  # fmt: skip
PARAMETERS = (
    "method", "rows", "epochs", "steps", "learning_rate", "schedule", "rank", "alpha", "batch_size",
    "precision",
)  # fmt: skip
FIGURES = ("selection_score", "seconds", "tokens", "trainable_parameters", "share", "tokens_per_second")


class MlflowRun:
    """One run in an MLflow store: hands progress on, and writes loss and speed of every step.

    Metrics of a first stage that reads documents begin with its name (``cpt/loss``): both stages count their
    steps from 1. A store that fails while training goes on is told of once and left alone: figures are kept
    by the run itself, so that training never ends for want of a copy.
    """

    def __init__(self, uri: str, experiment: str, name: str, progress: Progress) -> None:
        """Open the store and begin a run. Raises SettingError without mlflow, StoreError without a store."""
        if importlib.util.find_spec("mlflow") is None:
            raise SettingError(
                "--mlflow needs MLflow, which is not installed here. Run: pip install 'tunewise[mlflow]', or "
                "leave it out: the run's own folder holds the same figures"
            )
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.progress = progress
        self.errors: tuple[type[Exception], ...] = (MlflowException, OSError)
        self.waiting: list[Any] = []
        self.written = time.monotonic()
        self.open = True
        try:
            self.client = MlflowClient(tracking_uri=uri)
            found = self.client.get_experiment_by_name(experiment)
            place = self.client.create_experiment(experiment) if found is None else found.experiment_id
            self.id: str = self.client.create_run(place, run_name=name).info.run_id
        except self.errors as error:
            raise StoreError(
                f"no MLflow store could be opened at {uri}: {error}. A local one is "
                "sqlite:///mlflow.db; a server's is its http address."
            ) from error

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress."""
        self.progress.tell(event, **facts)
        if event != "training" or not self.open:
            return
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        stage = f"{READING}/" if facts.get("rung") == READING else ""
        self.waiting += [
            Metric(stage + name, float(facts[name]), now, int(facts["step"]))
            for name in STEP_FIGURES
            if facts.get(name) is not None
        ]
        if time.monotonic() - self.written >= SECONDS:
            self.write()

    def write(self) -> None:
        """Write what waits."""
        if not self.waiting or not self.open:
            return
        waiting, self.waiting = self.waiting, []
        self.written = time.monotonic()
        try:
            for start in range(0, len(waiting), 1000):  # the most that a server takes at once
                self.client.log_batch(self.id, metrics=waiting[start : start + 1000])
        except self.errors as error:
            self.give_up(error)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Settings and figures of the finished run."""
        from mlflow.entities import Metric, Param

        self.write()
        now = round(1000 * time.time())
        figures = [Metric(n, float(facts[n]), now, 0) for n in FIGURES if facts.get(n) is not None]
        figures += [
            Metric("held_out_loss", float(row["held_out_loss"]), now, int(row["step"]))
            for row in facts.get("tried", ())
            if row.get("held_out_loss") is not None
        ]
        settings = [Param(n, str(facts[n])) for n in PARAMETERS if facts.get(n) is not None]
        try:
            if self.open:
                self.client.log_batch(self.id, metrics=figures, params=settings)
        except self.errors as error:
            self.give_up(error)

    def end(self, status: str) -> None:
        """Close the run: FINISHED or FAILED."""
        self.write()
        try:
            if self.open:
                self.client.set_terminated(self.id, status)
        except self.errors as error:
            self.give_up(error)

    def give_up(self, error: Exception) -> None:
        """Say once that nothing more is written."""
        self.open = False
        self.progress.tell("note", text=f"MLflow: no more figures are written there ({error})")


@contextmanager
def mlflow_run(uri: str, experiment: str, name: str, progress: Progress) -> Iterator[MlflowRun]:
    """A run that is FINISHED when the block ends and FAILED when it raises."""
    run = MlflowRun(uri, experiment, name, progress)
    try:
        yield run
    except BaseException:
        run.end("FAILED")
        raise
    run.end("FINISHED")
