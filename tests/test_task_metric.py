"""``metric`` in the task file: names, options, and what is said of mistakes in them."""

import pytest

from tunewise.errors import TaskFileError
from tunewise.evidence.metrics import METRICS, metric_of
from tunewise.task import Task, load_task
from tunewise.task_metric import METRIC_NAMES, NumericOptions, options_of

TASK = "name: t\nexamples: rows.jsonl\nmetric: {metric}\ntarget: 0.9\n"


def write(tmp_path, metric: str):
    (tmp_path / "rows.jsonl").write_text('{"input": "1", "output": "1"}\n')
    (tmp_path / "task.yaml").write_text(TASK.format(metric=metric))
    return tmp_path / "task.yaml"


def mistakes(tmp_path, metric: str) -> tuple[str, ...]:
    with pytest.raises(TaskFileError) as caught:
        load_task(write(tmp_path, metric))
    return caught.value.problems


def test_every_name_has_a_function_and_every_function_a_name():
    assert tuple(METRICS) == METRIC_NAMES


def test_a_metric_is_a_name_or_a_name_with_options(tmp_path):
    assert load_task(write(tmp_path, "exact")).metric_options == {}
    task = load_task(write(tmp_path, "{name: numeric, tolerance: 0.5}"))
    assert (task.metric, metric_of(task).kind) == ("numeric", "binary")
    assert options_of(task.metric, task.metric_options) == NumericOptions(tolerance=0.5)
    own = load_task(write(tmp_path, "{name: 'python:mine:half', kind: binary}"))
    assert metric_of(own).kind == "binary"


def test_python_users_write_the_same_mapping():
    task = Task(name="t", examples="r.jsonl", metric={"name": "numeric", "relative": 0.1}, target=0.9)
    assert (task.metric, task.metric_options) == ("numeric", {"relative": 0.1})
    assert Task.model_validate(task.model_dump(mode="json")) == task


def test_options_are_part_of_a_run_s_identity_and_their_absence_is_not(tmp_path):
    plain = load_task(write(tmp_path, "numeric"))
    assert "metric_options" not in plain.settings()
    assert load_task(write(tmp_path, "{name: numeric, tolerance: 1}")).fingerprint() != plain.fingerprint()


def test_a_precision_of_answers_is_part_of_a_run_s_identity_and_its_default_is_not(tmp_path):
    plain = write(tmp_path, "exact")
    before = load_task(plain)
    assert "precision" not in before.settings()["decoding"]
    plain.write_text(plain.read_text(encoding="utf-8") + "\ndecoding: {precision: auto}\n", encoding="utf-8")
    assert load_task(plain).fingerprint() != before.fingerprint()


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("{name: numeric, tolerence: 1}", "line 3: metric.tolerence: unknown key; did you mean 'tolerance'?"),
        ("{name: numeric, tolerance: -1}", "line 3: metric.tolerance: it must be greater than or equal to 0"),
        ("{name: numeric, tolerance: no}", "line 3: metric.tolerance: a number was expected, got 'no'"),
        ("{name: exact, normalise: [upper]}", "line 3: metric.normalise.0: it must be 'unicode', 'case'"),
        ("{name: numerics}", "line 3: metric: unknown metric 'numerics'; did you mean 'numeric'?"),
        ("{tolerance: 1}", "line 3: metric: missing 'name', as in {name: numeric, ...}"),
        (
            "python:mine",
            "line 3: metric: 'python:mine': a metric of your own is named",
        ),
        ("{name: accuracy, tolerance: 1}", "line 3: metric.tolerance: unknown key"),
    ],
)
def test_mistakes_are_told_once_with_line_and_key(tmp_path, metric, message):
    (found,) = mistakes(tmp_path, metric)
    assert found.startswith(message), found


def test_options_stand_under_metric_only(tmp_path):
    path = write(tmp_path, "exact")
    path.write_text(path.read_text() + "metric_options: {}\n")
    with pytest.raises(TaskFileError, match="line 5: metric_options: unknown key; write metric"):
        load_task(path)


def test_a_key_that_a_file_may_not_hold_is_not_offered_among_the_known_ones(tmp_path):
    path = tmp_path / "task.yaml"
    path.write_text("name: t\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\nbudgit: 3\n")
    with pytest.raises(TaskFileError) as refused:
        load_task(path)
    assert "known here: name" in str(refused.value)
    assert "metric_options" not in str(refused.value)
