"""Token lengths: figures by hand, and a task's own rows."""

import itertools
import json

import pytest

from tunewise.errors import SettingError
from tunewise.estimation import lengths
from tunewise.estimation.lengths import Lengths
from tunewise.task import load_task


def test_padded_length_is_the_mean_of_the_longest_over_all_draws():
    found = Lengths((2, 3, 7), 3, "")
    for batch in (1, 2, 3):
        draws = list(itertools.product(found.values, repeat=batch))
        assert found.padded(batch) == pytest.approx(sum(map(max, draws)) / len(draws))


def test_quantiles_are_the_shortest_length_that_enough_rows_do_not_pass():
    found = Lengths(tuple(range(1, 101)), 100, "")
    assert (found.quantile(0.5), found.quantile(0.95), found.quantile(1.0)) == (50, 95, 100)
    assert (found.mean, found.longest) == (50.5, 100)


def test_without_a_tokenizer_bytes_are_counted_and_that_is_said():
    found = lengths.of_texts([("x" * 35, 2), ("y" * 70, 2)], None)
    assert found.values == (10 + 16, 20 + 16)
    assert "bytes a token" in found.said


def test_many_rows_are_thinned_and_still_counted():
    found = lengths.of_texts([("word", 1)] * 12_000, None)
    assert found.rows == 12_000
    assert len(found.values) <= lengths.MOST_COUNTED


def test_no_rows_are_refused():
    with pytest.raises(SettingError, match="no train rows"):
        lengths.of_texts([], None)


def test_a_task_s_own_train_rows_are_measured(tmp_path):
    rows = [{"input": " ".join(f"w{n}x{k}" for k in range(n)), "output": "x"} for n in range(1, 61)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = (
        "name: t\ninstruction: Do it.\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\nmodel: owner/other\n"
    )
    (tmp_path / "task.yaml").write_text(text)
    task = load_task(tmp_path / "task.yaml")
    found = lengths.of_task(task)
    assert found.rows == len(found.values) < 60
    assert found.longest > found.values[0]
    assert lengths.model_of(task) == "owner/other"


def test_a_task_with_an_endpoint_only_names_no_weights_to_tune(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"input": "a", "output": "b"}) + "\n")
    text = "name: t\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\n"
    (tmp_path / "task.yaml").write_text(text + "model: {endpoint: 'http://h/v1', name: m}\n")
    with pytest.raises(SettingError, match="names no local weights"):
        lengths.model_of(load_task(tmp_path / "task.yaml"))


def test_a_task_at_an_endpoint_is_measured_for_the_model_that_is_named(tmp_path):
    rows = [{"input": f"question {n}", "output": "x"} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "task.yaml").write_text(
        "name: t\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\nmodel: {endpoint: http://a/v1, name: m}\n"
    )
    task = load_task(tmp_path / "task.yaml")
    with pytest.raises(SettingError, match="give MODEL"):
        lengths.of_task(task)
    assert 20 < (lengths.of_task(task, "nobody/has-this").rows or 0) < 40
