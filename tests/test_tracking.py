"""A run's figures in a local MLflow store; the rest runs without MLflow."""

import importlib.util

import pytest

from tunewise.errors import SettingError, StoreError
from tunewise.tracking import mlflow_run

needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="needs mlflow")


class Told:
    def __init__(self):
        self.events = []

    def tell(self, event, **facts):
        self.events.append((event, facts))


def test_without_mlflow_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with (
        pytest.raises(SettingError, match=r"tunewise\[mlflow\]"),
        mlflow_run("sqlite:///mlflow.db", "task", "lora", Told()),
    ):
        pass


@needs_mlflow
@pytest.mark.filterwarnings("ignore")  # of mlflow and what it imports
def test_a_local_store_holds_losses_settings_and_figures_of_the_run(tmp_path):
    from mlflow import MlflowClient

    uri, told = f"sqlite:///{tmp_path}/mlflow.db", Told()
    with mlflow_run(uri, "tickets", "lora", told) as run:
        for step in (1, 2, 3):
            run.tell("training", rung="lora", step=step, steps=3, loss=3.0 - step, tokens_per_second=100.0)
        run.finish(
            {"method": "lora", "learning_rate": 2e-4, "selection_score": 0.5,
             "tried": [{"step": 3, "held_out_loss": 0.25}]}
        )  # fmt: skip
    client = MlflowClient(tracking_uri=uri)
    kept = client.get_run(run.id)
    assert kept.info.status == "FINISHED"
    assert [(m.step, m.value) for m in client.get_metric_history(run.id, "loss")] == [(1, 2), (2, 1), (3, 0)]
    assert kept.data.params == {"method": "lora", "learning_rate": "0.0002"}
    assert kept.data.metrics["selection_score"] == 0.5
    assert [(m.step, m.value) for m in client.get_metric_history(run.id, "held_out_loss")] == [(3, 0.25)]
    assert [event for event, _ in told.events] == ["training"] * 3


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_the_steps_of_two_stages_have_names_of_their_own(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with mlflow_run(uri, "tickets", "lora cpt+sft", Told()) as run:
        run.tell("training", rung="cpt", step=1, steps=1, loss=3.0)
        run.tell("training", rung="lora", step=1, steps=1, loss=2.0)
    client = MlflowClient(tracking_uri=uri)
    for name, value in (("cpt/loss", 3.0), ("loss", 2.0)):
        assert [(m.step, m.value) for m in client.get_metric_history(run.id, name)] == [(1, value)]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_fails_is_failed_and_a_store_that_breaks_does_not_end_training(tmp_path, monkeypatch):
    from mlflow import MlflowClient

    uri, told = f"sqlite:///{tmp_path}/mlflow.db", Told()
    with pytest.raises(ZeroDivisionError), mlflow_run(uri, "tickets", "lora", told) as run:
        raise ZeroDivisionError
    assert MlflowClient(tracking_uri=uri).get_run(run.id).info.status == "FAILED"

    def broken(*args, **kwargs):
        raise OSError("disk full")

    with mlflow_run(uri, "tickets", "lora", told) as run:
        monkeypatch.setattr(run.client, "log_batch", broken)
        run.tell("training", step=1, loss=1.0)
        run.write()
        run.finish({"seconds": 1.0})
    notes = [facts["text"] for event, facts in told.events if event == "note"]
    assert notes == ["MLflow: no more figures are written there (disk full)"]


@needs_mlflow
@pytest.mark.filterwarnings("ignore")
def test_a_store_that_cannot_be_opened_says_what_one_looks_like(tmp_path):
    with (
        pytest.raises(StoreError, match=r"sqlite:///mlflow\.db"),
        mlflow_run("nothing://here", "tickets", "lora", Told()),
    ):
        pass
