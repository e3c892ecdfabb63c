"""``tunewise train`` on a tiny model: what it shows, refuses, launches and hands over."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("trl")

from tunewise.cli.main import main
from tunewise.errors import DataError, RunError, SettingError
from tunewise.models import tokens
from tunewise.training.launch import Launch
from tunewise.training.trust import TrainingNotTrusted
from tunewise.tuning import launch_command, show, train


def test_what_is_shown_is_what_the_model_reads_and_marks_what_it_learns(task_file):
    shown = show(task_file(), rows=3)
    assert len(shown.examples) == 3
    for row in shown.examples:
        prompt, answer = row.pieces
        assert not prompt.loss
        assert prompt.text.startswith("<|im_start|>system\nname and town<|im_end|>\n<|im_start|>user\n")
        assert prompt.text.endswith("<|im_start|>assistant\n")
        assert answer.loss
        assert json.loads(answer.text.removesuffix("<|im_end|>")).keys() == {"name", "town"}
        assert "train.jsonl:" in row.place
    assert (shown.method, shown.rows) == ("lora", 16)
    assert len(shown.passed) == 5
    assert {cause["cause"] for cause in shown.causes} >= {"mix", "learning_rate", "distinct_bigrams"}


def test_a_run_ends_with_a_folder_that_answers_and_is_found_again(task_file):
    run = train(task_file(), out="here")
    assert run.folder.parts[-3:] == ("here", "lora", "adapter")
    assert run.facts["checks"]["largest_change"] > 0
    assert train("task.yaml", out="here").facts == run.facts


def test_changed_settings_are_refused_with_the_difference_and_leave_the_run_as_it_was(task_file):
    path = task_file()
    run = train(path, out="here")
    said = path.read_text(encoding="utf-8")
    for old, new, says in (
        ("0.005", "0.004", r"recipe\.learning_rate: 0\.005 before, 0\.004 now"),
        ("metric: exact", "metric: token_f1", r"choice\.metric: exact before, token_f1 now"),
        ("name and town", "town and name", r"train_rows: 16 changed \(\S+:1, .*and 11 more\)"),
    ):
        path.write_text(said.replace(old, new), encoding="utf-8")
        with pytest.raises(RunError, match=says):
            train(path, out="here")
    path.write_text(said, encoding="utf-8")
    rows = (path.parent / "train.jsonl").read_text(encoding="utf-8")
    lines = rows.splitlines(keepends=True)
    lines[2] = lines[2].replace('"input": "', '"input": "Now ')
    (path.parent / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    with pytest.raises(RunError, match=r"train_rows: 1 changed \(\S*train\.jsonl:3\)\n"):
        train(path, out="here")
    (path.parent / "train.jsonl").write_text(rows, encoding="utf-8")
    assert train(path, out="here").facts == run.facts


def test_prompts_that_other_servers_would_make_otherwise_are_refused(task_file, monkeypatch):
    """Training and answering may agree with each other and still not with the model's own template."""
    encode = tokens.encode
    monkeypatch.setattr(tokens, "encode", lambda tokenizer, text: [3, *encode(tokenizer, text)])
    with pytest.raises(TrainingNotTrusted, match="serving sends"):
        show(task_file())


def test_full_tuning_hands_over_a_model(task_file):
    run = train(task_file(), method="full", out="here")
    assert run.folder.name == "model"
    assert run.facts["share"] == 1.0
    assert run.facts["model_bytes"] > 4 * run.facts["trainable_parameters"]


def test_the_mix_is_said_before_the_run(task_file):
    shown = show(task_file(", mix: {general: general.jsonl, share: 0.3}"))
    assert any("16 task rows + 6 general rows = 22 in each pass" in note for note in shown.notes)
    assert any("then 2 more with replacement" in note for note in shown.notes)
    assert "mix" not in {cause["cause"] for cause in shown.causes}


def test_a_run_held_near_its_base_says_how_near_and_takes_no_processes(task_file):
    run = train(task_file(", kl: {general: general.jsonl, weight: 0.5, rows: 2}"), out="here")
    assert len(run.facts["kl"]) == run.facts["steps"] == 4
    assert run.facts["kl"][-1] > 0
    assert run.facts["guard"]["verdict"] == "off"
    with pytest.raises(SettingError, match=r"training\.kl is computed in one process"):
        train("task.yaml", out="there", launch=Launch(2))


def test_certification_rows_among_the_train_rows_are_refused(task_file):
    with pytest.raises(DataError, match="certification"):
        show(task_file(train=[*range(16), 105]))


@pytest.mark.parametrize("asked", [", mix: {general: general.jsonl}", ", kl: {general: general.jsonl}"])
def test_certification_items_in_general_data_are_refused_with_their_lines(
    task_file, make_example, tmp_path, asked
):
    path = task_file(asked)
    rows = [{"input": e.input, "output": e.answer} for e in map(make_example, (200, 105, 201))]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "general.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(SettingError, match=r"1 rows of training\.(mix|kl)\.general.*general\.jsonl:2"):
        show(path)
    twice = [{"input": make_example(107).input, "output": f"other {n}"} for n in range(2)]
    (tmp_path / "general.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in twice), encoding="utf-8"
    )
    with pytest.raises(SettingError, match=r"2 rows of .*general\.jsonl:1.*general\.jsonl:2"):
        show(path)
    said = f"Answer this. {make_example(106).input.upper()}!"
    rows = [{"input": said, "output": f"It is {make_example(106).answer}."}]
    (tmp_path / "general.jsonl").write_text(json.dumps(rows[0]) + "\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"general\.jsonl:1"):
        show(path)


def test_rows_that_lose_the_beginning_of_their_prompt_are_trained_on_and_counted(task_file):
    shown = show(task_file(", max_length: 62, too_long: truncate_left"))
    assert (shown.rows, shown.longest) == (16, 62)
    [note] = shown.notes
    assert "16 train rows pass the window" in note
    assert "lose the beginning of their prompt" in note


def test_items_that_the_tuned_model_could_not_be_asked_are_named_before_the_training(task_file):
    path = task_file()
    file = path.parent / "certification.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[3] = json.dumps({"input": "pub " * 250, "output": "x"}) + "\n"
    file.write_text("".join(lines), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"(?s)256 tokens, has no room.*certification\.jsonl:4: the prompt has"
    ):
        train(path, out="here")
    assert not Path("here").exists()


def test_a_second_training_in_the_same_folder_is_refused_while_the_first_is_at_work(task_file):
    from tunewise.training.checkpoints import alone_in
    from tunewise.tuning_compared import compare_methods

    path = task_file()
    with alone_in(Path("here")):
        for again in (
            lambda: train(path, out="here"),
            lambda: compare_methods(path, ["full", "lora"], out="here"),
            lambda: launch_command(path, out="here", launch=Launch(2)),
        ):
            with pytest.raises(RunError, match="here is in use by another training"):
                again()
    assert train(path, out="here").facts["steps"] == 4


def test_the_loss_on_general_rows_is_measured_where_rows_cannot_share_a_pass(task_file, monkeypatch):
    from tunewise.progress import Silent
    from tunewise.training import held_out
    from tunewise.tuning import base_of, prepare
    from tunewise.tuning_compared import general_losses

    _, bench, _ = prepare(task_file(), "lora", "sft", "here", 0, Silent())
    before = general_losses(bench, base_of(bench).folder, {}, "general.jsonl")
    monkeypatch.setattr(held_out, "tensors", lambda *args: pytest.fail("packed"))
    assert general_losses(bench, base_of(bench).folder, {}, "general.jsonl") == before != {}


def test_rows_beyond_the_length_are_refused_when_asked(task_file):
    with pytest.raises(DataError, match=r"rows pass the window of 60 tokens"):
        show(task_file(", max_length: 60, too_long: refuse"))


@pytest.mark.parametrize(
    ("asked", "says"),
    [({"method": "dora"}, "there are lora, qlora, full"), ({"stage": "dpo"}, "there are sft, cpt, cpt")],
)
def test_unknown_methods_and_stages_are_refused(task_file, asked, says):
    with pytest.raises(SettingError, match=says):
        show(task_file(), **asked)


def test_a_base_without_chat_template_says_how_to_give_one(task_file, tiny, tmp_path):

    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    (bare / "chat_template.jinja").unlink()
    path = task_file()
    path.write_text(path.read_text(encoding="utf-8").replace(str(tiny), str(bare)), encoding="utf-8")
    with pytest.raises(SettingError, match=r"no chat template.*chat_template\.jinja"):
        show(path)


def test_a_repaired_build_has_no_held_out_loss_since_nobody_took_it():
    from tunewise.tuning_compared import loss_of

    facts = {"tried": [{"step": 4, "held_out_loss": 0.5}], "checkpoint": {"step": 4}}
    assert loss_of(facts) == loss_of(facts | {"checkpoint": {"step": 4, "scale": 1.0}}) == 0.5
    assert loss_of(facts | {"checkpoint": {"step": 4, "scale": 0.5}}) is None


def test_what_answers_are_multiplied_in_is_no_other_training(task_file, monkeypatch):
    run = train(task_file(), out="here")
    said = Path("task.yaml").read_text(encoding="utf-8")
    Path("task.yaml").write_text(
        said.replace("max_new_tokens: 8", "max_new_tokens: 8, precision: auto"), "utf-8"
    )
    monkeypatch.setattr("tunewise.models.precision.has_amx", lambda: True)
    assert train("task.yaml", out="here").facts == run.facts


def test_another_machine_goes_on_in_the_precision_that_a_training_was_begun_in(task_file, monkeypatch):
    monkeypatch.setattr("tunewise.rungs.tuned_settings.best_precision", lambda whole: "bf16")
    run = train(task_file(), out="here")
    assert run.facts["precision"] == "bf16"
    monkeypatch.setattr("tunewise.rungs.tuned_settings.best_precision", lambda whole: "fp32")
    assert train("task.yaml", out="here").facts == run.facts
    with pytest.raises(RunError, match=r"recipe\.precision: bf16 before, fp32 now"):
        train(task_file(", precision: fp32"), out="here")


def test_the_command_line_shows_and_refuses_without_a_traceback(task_file, capsys, monkeypatch):
    path = task_file()
    monkeypatch.setattr("sys.argv", ["tunewise", "train", str(path), "--show", "--rows", "1"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (0, None)
    said = capsys.readouterr().out
    assert "«" in said
    assert "holds: every one of 16 examples has tokens under loss" in said
    monkeypatch.setattr("sys.argv", ["tunewise", "train", str(path), "--method", "dora", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "unknown method 'dora'" in capsys.readouterr().err


def test_methods_are_compared_on_the_same_items_each_at_its_best_rate(task_file):
    from tunewise.tuning_compared import compare_methods

    found = compare_methods(
        task_file(), ["full", "lora"], out="both", rates=2, rate_rows=8, general="general.jsonl"
    )
    assert found.general_loss.keys() == {"base", "full", "lora"}
    assert len(set(found.general_loss.values())) == 3
    full, lora = found.rows
    assert (full.method, full.difference) == ("full", None)
    assert lora.difference is not None
    assert lora.difference.n == lora.items == len(lora.scores) == 8
    assert [tried["learning_rate"] for tried in lora.tried] == [2e-4, 6.7e-5]
    assert lora.learning_rate in (2e-4, 6.7e-5)
    assert full.share == 1.0
    assert full.checkpoint_bytes > lora.checkpoint_bytes
    assert found.ten_tasks == {
        "full": 10 * full.checkpoint_bytes,
        "lora": found.base_bytes + 10 * lora.checkpoint_bytes,
    }
    # fp32 weights of ten models; of one base (tied embedding once) and ten adapters in fp32
    weights = full.trainable_parameters
    assert found.ten_tasks_memory == {
        "full": 10 * 4 * weights,
        "lora": 4 * weights + 10 * 4 * lora.trainable_parameters,
    }
    assert not list(Path("both").glob("rate-*-8/*/work"))
    again = compare_methods("task.yaml", ["full", "lora"], out="both", rates=2, rate_rows=8)
    assert [row.scores for row in again.rows] == [row.scores for row in found.rows]
    assert [row.seconds for row in again.rows] == [row.seconds for row in found.rows]
    assert found.swap_seconds is not None
    assert found.swap_seconds > 0
    assert any(said.startswith("lora: adapters train") for said in found.claims)
    json.dumps(found.to_json())


def test_options_that_a_comparison_would_ignore_are_refused(task_file, capsys, monkeypatch):
    words = ["--compare", "full,lora", "--processes", "2", "--curve"]
    monkeypatch.setattr("sys.argv", ["tunewise", "train", str(task_file()), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "leave out --curve, --processes" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["tunewise", "train", "task.yaml", "--general", "general.jsonl"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "--general: only with --compare" in capsys.readouterr().err


def test_unknown_targets_are_found_before_anything_is_trained(task_file):
    path = task_file(", lora_targets: [q_pro]")
    for look in (show, lambda path: launch_command(path, out="here", launch=Launch(2))):
        with pytest.raises(SettingError, match=r"no linear layers called 'q_pro'; did you mean 'q_proj'"):
            look(path)


def test_reading_documents_has_causes_of_forgetting_of_its_own(task_file, tmp_path):
    (tmp_path / "papers").mkdir()
    for number in range(8):
        text = f"The red lion of paper {number} stands in a town. " * 8
        (tmp_path / "papers" / f"{number}.txt").write_text(text, encoding="utf-8")
    more = ", cpt: {documents: papers, length: 64, epochs: 9, learning_rate: 0.01}"
    shown = show(task_file(more), stage="cpt")
    said = {cause["cause"]: cause["says"] for cause in shown.causes}
    assert said.keys() == {"epochs", "learning_rate", "mix"}
    assert said["epochs"] == "reading documents: 9 epochs, more than 5: fewer passes, or more rows"


def test_one_method_alone_is_no_comparison(task_file):
    from tunewise.tuning_compared import compare_methods

    with pytest.raises(SettingError, match="two or three different methods"):
        compare_methods(task_file(), ["lora", "lora"])


def test_rates_cannot_be_tried_on_a_handful_of_rows(task_file):
    from tunewise.tuning_compared import compare_methods

    with pytest.raises(SettingError, match="rates are tried on 8 rows or more, got 4"):
        compare_methods(task_file(), ["full", "lora"], rate_rows=4)


def test_trackers_of_transformers_get_the_loss_of_every_step(task_file, monkeypatch):
    from transformers import TrainerCallback
    from transformers.integrations import integration_utils as integrations

    logged = []

    class Tracker(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged.append((state.global_step, logs))

    monkeypatch.setitem(integrations.INTEGRATION_TO_CALLBACK, "dvclive", Tracker)
    monkeypatch.setattr(integrations, "get_available_reporting_integrations", lambda: ["dvclive"])
    run = train(task_file(), out="here", report_to=["dvclive"])
    losses = {step: logs["loss"] for step, logs in logged if "loss" in logs}
    assert sorted(losses) == list(range(1, run.facts["steps"] + 1))
    assert [losses[step] for step in sorted(losses)] == pytest.approx(run.facts["losses"], abs=1e-4)
    assert train("task.yaml", out="here").facts == run.facts  # trackers are no setting of the training


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"report_to": ["wandbb"]}, "unknown tracker 'wandbb'; there are .*wandb"),
        ({"report_to": ["wandb"]}, r"wandb is not installed \(none is installed here\)"),
        ({"report_to": ["wandb"], "launch": Launch(2)}, "works in one process"),
    ],
)
def test_trackers_that_cannot_be_used_are_refused(task_file, monkeypatch, asked, says):
    from transformers.integrations import integration_utils as integrations

    monkeypatch.setattr(integrations, "get_available_reporting_integrations", list)
    with pytest.raises(SettingError, match=says):
        train(task_file(), **asked)
