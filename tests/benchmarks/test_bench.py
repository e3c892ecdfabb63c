"""``tunewise bench`` on a tiny random model: scores, kept scores, comparison, bad input."""

import json
import random

import pytest

pytest.importorskip("torch")

from typer.testing import CliRunner

from tunewise.benchmarks.bench import Measured, answered_by_both, bench, pool
from tunewise.benchmarks.comparison import compare
from tunewise.benchmarks.figures import share
from tunewise.benchmarks.following import Followed, FollowedOutcome, following_figures
from tunewise.benchmarks.item import Item
from tunewise.benchmarks.scorer import LocalScorer, Outcome
from tunewise.benchmarks.scores import Scored
from tunewise.benchmarks.tasks import find
from tunewise.cli.bench import show_figures
from tunewise.cli.consoles import table_console
from tunewise.errors import DataError, SettingError, WorldError
from tunewise.models.door import Answer
from tunewise.models.weights import context_window

WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "ate", "all", "of", "it", "by", "noon"]


def words(rng, low, high):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, high)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Made-up rows of four benchmarks."""
    rng = random.Random(3)
    folder = tmp_path_factory.mktemp("data")

    def write(name, rows):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))

    def choices(count):
        return {"choices": [words(rng, 1, 6) for _ in range(count)], "answer_index": rng.randrange(count)}

    write(
        "arc/arc_easy_test.jsonl",
        [{"id": f"e{n}", "question": words(rng, 3, 15), **choices(4)} for n in range(40)],
    )
    write("piqa/piqa.jsonl", [{"id": f"p{n}", "question": words(rng, 3, 9), **choices(2)} for n in range(30)])
    rows = [
        {"id": f"m{n}", "subject": f"s{n % 2}", "question": words(rng, 3, 9), **choices(4)} for n in range(30)
    ]
    write("mmlu/mmlu_test.jsonl", rows[:20])
    write("mmlu/mmlu_dev.jsonl", rows[20:])
    write("lambada/rows.jsonl", [{"context": words(rng, 9, 20), "continuation": "cat"} for _ in range(12)])
    (folder / "text").mkdir()
    (folder / "text" / "prose.txt").write_text("\n\n".join(words(rng, 60, 90) for _ in range(30)))
    return folder


def alone(folder, context, ending):
    """lm-evaluation-harness's way, written out: one sequence, log-softmax, sum over the ending."""
    import torch

    from tunewise.models.weights import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(folder), load_model(folder)
    whole, before = tokenizer(context + ending)["input_ids"], len(tokenizer(context)["input_ids"])
    with torch.inference_mode():
        logprobs = torch.log_softmax(model(torch.tensor([whole])).logits[0].double(), -1)
    return sum(float(logprobs[place - 1, whole[place]]) for place in range(before, len(whole)))


def test_scores_are_those_of_each_ending_read_alone(tiny_folder):
    items = [
        Item("1", "the cat sat on", (" a mat", " noon", " it by noon and ate")),
        Item("2", "of it", (" all",)),
    ]
    outcome = LocalScorer(tiny_folder).score(items)
    for item, scored in zip(items, outcome.items, strict=True):
        expected = [alone(tiny_folder, item.context, ending) for ending in item.endings]
        assert scored.logprobs == pytest.approx(expected, abs=2e-4)


def test_every_benchmark_with_rows_is_measured_and_the_others_are_named(tiny_folder, data):
    report = bench(tiny_folder, data=data).to_json()
    assert [b["benchmark"] for b in report["benchmarks"]] == [
        "arc_easy", "mmlu", "mmlu_5shot", "piqa", "lambada", "text"
    ]  # fmt: skip
    for measured in report["benchmarks"]:
        main = measured["figures"][measured["main"]]
        assert main["low"] <= main["estimate"] <= main["high"]
    assert {"hellaswag", "boolq"} <= {row["benchmark"] for row in report["left_out"]}


def test_a_random_model_is_at_chance_and_that_is_said(tiny_folder, data):
    (measured,) = bench(tiny_folder, data=data, tasks=["arc_easy"]).measured
    assert measured.guesses
    assert any("not above chance (0.25)" in note for note in measured.notes())


def test_examples_that_do_not_fit_are_said(make_folder, data):
    small = make_folder(max_position_embeddings=64)
    (measured,) = bench(small, data=data, tasks=["mmlu_5shot"]).measured
    assert len(measured.outcome.cut) == 20
    assert any("do not fit into the model and were cut at the left" in note for note in measured.notes())


def test_kept_scores_are_found_again_and_never_by_another_model(tiny_folder, make_folder, data):
    first = bench(tiny_folder, data=data, tasks=["arc_easy"], limit=20).measured[0].outcome
    again = bench(tiny_folder, data=data, tasks=["arc_easy"]).measured[0].outcome
    assert (first.found, again.found) == (0, 20)
    assert again.items[:20] == first.items
    assert bench(make_folder(seed=5), data=data, tasks=["arc_easy"]).measured[0].outcome.found == 0
    assert bench(tiny_folder, data=data, tasks=["arc_easy"], keep=False).measured[0].outcome.found == 0


def test_a_model_against_itself_loses_nothing(tiny_folder, data):
    report = bench(tiny_folder, data=data, tasks=["arc_easy", "text"], compare_with=tiny_folder)
    arc, text = report.comparisons
    assert (arc.lost, arc.gained, arc.drop.estimate) == (0, 0, 0)
    assert arc.drop.low < 0 < arc.drop.high
    assert text.drop.estimate == 0


def test_another_model_is_compared_item_by_item(tiny_folder, make_folder, data):
    report = bench(tiny_folder, data=data, tasks=["piqa", "arc_easy"], compare_with=make_folder(seed=2))
    piqa = report.comparisons[0]
    assert piqa.lost + piqa.gained > 0
    assert piqa.drop.estimate == pytest.approx(piqa.first - piqa.second)
    assert piqa.above_chance.estimate is None
    assert "not above chance" in piqa.why
    json.dumps(report.to_json(), allow_nan=False)


def test_a_limit_below_one_and_no_benchmark_at_all_are_refused(tiny_folder, data, tmp_path):
    with pytest.raises(SettingError, match="at least 1 item"):
        bench(tiny_folder, data=data, limit=0)
    with pytest.raises(SettingError, match="--tasks"):
        bench(tiny_folder)
    with pytest.raises(DataError, match="no rows of any benchmark"):
        bench(tiny_folder, data=tmp_path)


def test_the_command_prints_one_json_document_on_standard_output(tiny_folder, data):
    from tunewise.cli.main import app

    said = CliRunner().invoke(
        app, ["bench", str(tiny_folder), "--data", str(data), "--tasks", "piqa", "--json"]
    )
    assert said.exit_code == 0
    assert json.loads(said.stdout)["benchmarks"][0]["n"] == 30


def test_the_command_prints_tables_and_what_has_to_be_known(tiny_folder, data):
    from tunewise.cli.main import app

    arguments = [
        "bench",
        str(tiny_folder),
        "--data",
        str(data),
        "--tasks",
        "piqa,text",
        "--compare",
        str(tiny_folder),
    ]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0
    assert "bits_per_byte" in said.stdout
    assert "piqa" in said.stdout


def test_instructions_are_answered_within_the_window_and_rows_left_out_are_counted(make_folder, tmp_path):
    rows = [
        {"prompt": "the cat", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
        {"prompt": "sat on", "instruction_id_list": ["startend:end_checker"], "kwargs": None},
    ]
    (tmp_path / "ifeval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = bench(make_folder(max_position_embeddings=64), data=tmp_path, tasks=["ifeval"])
    (measured,) = report.measured
    assert measured.figures["prompts_followed"].estimate in (0, 1)
    assert report.left_out[0][1].startswith("1 of 2 rows")


def test_weights_that_are_no_numbers_measure_nothing(make_folder, data):
    import torch
    from safetensors.torch import load_file, save_file

    folder = make_folder(5)
    [file] = folder.glob("*.safetensors")
    tensors = load_file(file)
    name = next(name for name in tensors if "down_proj" in name)
    save_file({**tensors, name: torch.full_like(tensors[name], float("nan"))}, file, {"format": "pt"})
    with pytest.raises(WorldError, match="40 of 40 items are no numbers"):
        bench(folder, tasks=["arc_easy"], data=data)


def test_a_second_model_that_needs_more_bits_for_a_text_has_lost(tiny_folder, make_folder, data):
    report = bench(tiny_folder, tasks=["text"], data=data, compare_with=make_folder(5))
    before, after = (one[0].main.estimate for one in (report.measured, report.second))
    [row] = report.comparisons
    assert row.drop.estimate == pytest.approx(after - before, abs=1e-9)
    assert row.relative.estimate == pytest.approx((after - before) / before)


def followed(names, failing=()):
    """Prompts of those names, each followed; the failing ones got no answer."""
    done = [Followed(name, Answer("ok"), (True,), (True,)) for name in names if name not in failing]
    figures = following_figures(done)
    outcome = FollowedOutcome(done, tuple(failing), 0.0)
    return Measured(find("ifeval"), outcome, figures, None, False)


def test_prompts_without_an_answer_are_said_and_compared_where_both_answered():
    one, other = followed("abcd", failing=["b"]), followed("abcd", failing=["c"])
    assert "1 of 4 items got no answer and are in no figure (b)" in one.notes()
    first, second = answered_by_both(one, other)
    assert [item.id for item in first] == [item.id for item in second] == ["a", "d"]
    row = compare(one.benchmark, first, second, None, False)
    assert (row.n, row.lost, row.gained) == (2, 0, 0)


@pytest.mark.parametrize("columns", [None, "66"])
def test_the_table_never_cuts_a_figure_in_a_pipe_or_in_a_narrow_terminal(columns, monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    show_figures(table_console(), "a model", [followed("abcd", failing=["b"])])
    printed = capsys.readouterr().out
    one = followed("abcd", failing=["b"]).figures["instructions_followed_loosely"]
    assert f"{one.low:.3f} to {one.high:.3f}" in printed
    assert "…" not in printed
    assert ("instructions_followed_loosely" in printed) == (columns is None)  # else folded over two lines


def answers(name, right, main="acc"):
    """A benchmark of so many items, of which the first ``right`` are."""
    items = [Scored(str(n), (0.0, -1.0), (True, False), (1, 1), int(n >= right)) for n in range(40)]
    benchmark = find(name)
    figures = {main: share(right, 40)}
    return Measured(benchmark, Outcome(items, (), 0, 0.0), figures, 0.25, False)


def test_no_question_counts_twice_in_the_pool_and_none_that_cannot_be_lost():
    first = [answers("mmlu", 20), answers("mmlu_5shot", 30), answers("boolq", 0)]
    pooled = pool(first, [answers("mmlu", 15), answers("mmlu_5shot", 0), answers("boolq", 0)])
    assert (pooled.n, pooled.lost) == (40, 5)
    assert pooled.above_chance.estimate is None
    assert pooled.why == "benchmarks have chance levels of their own"


def test_two_files_of_one_name_are_refused(tiny_folder, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "own.jsonl").write_text('{"question":"q","choices":["a","b"],"answer_index":0}')
    with pytest.raises(SettingError, match="two benchmarks are called 'own'"):
        bench(tiny_folder, tasks=[str(tmp_path / place / "own.jsonl") for place in ("a", "b")])


def test_broken_rows_of_a_benchmark_that_nobody_named_are_a_mistake_not_an_absence(tiny_folder, tmp_path):
    (tmp_path / "piqa.jsonl").write_text('{"question": "q"}\n')
    with pytest.raises(DataError, match=r"piqa\.jsonl, line 1: expected 'choices'"):
        bench(tiny_folder, data=tmp_path)


def test_a_bench_that_is_stopped_keeps_what_was_read(tiny_folder, data, monkeypatch):
    monkeypatch.setattr("tunewise.benchmarks.scorer.PART", 15)
    monkeypatch.setenv("TUNEWISE_CACHE", str(data / "cache of a stopped run"))
    whole = bench(tiny_folder, data=data, tasks=["arc_easy"], keep=False).measured[0].outcome
    reads = []

    def stop_in_the_third(self, asked, *more):
        reads.append(len(asked))
        if len(reads) == 3:
            raise KeyboardInterrupt
        return read(self, asked, *more)

    read = LocalScorer._read
    monkeypatch.setattr(LocalScorer, "_read", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        bench(tiny_folder, data=data, tasks=["arc_easy"])
    again = bench(tiny_folder, data=data, tasks=["arc_easy"]).measured[0].outcome
    assert (again.found, reads) == (30, [15, 15, 10, 10])
    assert [item.logprobs for item in again.items] == [
        pytest.approx(item.logprobs, abs=1e-4) for item in whole.items
    ]


def test_scores_that_cannot_be_kept_are_measured_all_the_same(tiny_folder, data, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setattr("tunewise.benchmarks.kept.cache_folder", lambda: tmp_path / "file" / "cache")
    assert bench(tiny_folder, data=data, tasks=["arc_easy"], limit=20).measured[0].outcome.found == 0


def test_the_window_of_older_configurations_is_known(tmp_path):
    for config, window in [
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({"max_position_embeddings": 2048, "n_ctx": 1024}, 2048),
        ({}, None),
    ]:
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert context_window(tmp_path) == window
