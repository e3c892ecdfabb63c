"""``tunewise train`` on a tiny model: what it shows, refuses, launches and hands over."""

import json
import shlex
from pathlib import Path

import pytest

pytest.importorskip("trl")

from tunewise.cli.main import main
from tunewise.errors import DataError, SettingError
from tunewise.training.launch import Launch, command, in_words
from tunewise.tuning import launch_command, show, train

TASK = """\
name: towns
instruction: name and town
examples: {{train: train.jsonl, selection: selection.jsonl, certification: certification.jsonl}}
metric: exact
target: 0.5
decoding: {{max_new_tokens: 8}}
model: {tiny}
training: {{epochs: 2, learning_rate: 0.005, lora_rank: 4{more}}}
"""


def write(path, examples):
    rows = [{"input": e.input, "output": e.answer} for e in examples]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def task_file(tiny, make_example, tmp_path, monkeypatch):
    """``make(more="", train=range) -> task file`` in a folder of its own, which is entered."""

    def make(more="", train=range(16)):
        write(tmp_path / "train.jsonl", [make_example(n) for n in train])
        write(tmp_path / "selection.jsonl", [make_example(n) for n in range(20, 28)])
        write(tmp_path / "certification.jsonl", [make_example(n) for n in range(100, 140)])
        write(tmp_path / "general.jsonl", [make_example(n) for n in range(200, 210)])
        (tmp_path / "task.yaml").write_text(TASK.format(tiny=tiny, more=more), encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        return tmp_path / "task.yaml"

    return make


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
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(tiny, bare)
    (bare / "chat_template.jinja").unlink()
    path = task_file()
    path.write_text(path.read_text(encoding="utf-8").replace(str(tiny), str(bare)), encoding="utf-8")
    with pytest.raises(SettingError, match=r"no chat template.*chat_template\.jinja"):
        show(path)


def test_the_dry_run_prints_a_command_and_writes_the_job_that_it_reads(task_file, capsys):
    plan = launch_command(task_file(), out="here", launch=Launch(2))
    words = shlex.split(plan["command"])
    assert words[words.index("--num_processes") + 1] == "2"
    assert words[-3:-1] == ["-m", "tunewise.training.worker"]
    assert json.loads(Path(plan["job"], "job.json").read_text(encoding="utf-8"))["recipe"]["method"] == "lora"
    assert (plan["steps"], plan["rows_of_each_process"]) == (4, 4)


def test_launch_settings_become_accelerates_words(tmp_path):
    from argparse import Namespace

    from accelerate.commands.launch import launch_command_parser

    parser = launch_command_parser()
    launches = {
        "one": Launch(), "ddp": Launch(4), "fsdp2": Launch(8, strategy="fsdp2"),
        "deepspeed": Launch(8, strategy="deepspeed"), "nodes": Launch(8, 2, "fsdp2", "10.0.0.1"),
    }  # fmt: skip
    read: dict[str, Namespace] = {}
    for name, launch in launches.items():
        words = command(launch, tmp_path, cpu=False)
        assert words[:2] == ["accelerate", "launch"]
        read[name] = parser.parse_args([word.replace("$NODE_RANK", "1") for word in words[2:]])
        assert read[name].module
        assert read[name].num_processes == launch.processes * launch.nodes
    assert (read["ddp"].multi_gpu, read["one"].multi_gpu) == (True, False)
    assert (read["fsdp2"].use_fsdp, str(read["fsdp2"].fsdp_version)) == (True, "2")
    assert (read["deepspeed"].use_deepspeed, read["deepspeed"].zero_stage) == (True, 3)
    assert (read["nodes"].num_machines, read["nodes"].machine_rank) == (2, 1)
    assert read["nodes"].main_process_ip == "10.0.0.1"
    assert "--machine_rank $NODE_RANK" in in_words(command(launches["nodes"], tmp_path, cpu=False))


@pytest.mark.parametrize(
    ("launch", "says"),
    [
        (Launch(3), "batch_size 8 cannot be shared by 3"),
        (Launch(2, 2), "--host"),
        (Launch(2, 1, "zero"), "unknown strategy 'zero'"),
    ],
)
def test_launches_that_cannot_be_are_refused(launch, says):
    with pytest.raises(SettingError, match=says):
        launch.check(8)


@pytest.mark.slow
def test_two_processes_follow_the_losses_of_one(task_file):
    alone = train(task_file(), out="alone")
    two = train("task.yaml", out="two", launch=Launch(2))
    assert two.facts["losses"] == pytest.approx(alone.facts["losses"], abs=5e-5)
    assert two.facts["tried"][-1]["held_out_loss"] == pytest.approx(
        alone.facts["tried"][-1]["held_out_loss"], rel=1e-3
    )


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


def test_one_method_alone_is_no_comparison(task_file):
    from tunewise.tuning_compared import compare_methods

    with pytest.raises(SettingError, match="two or three different methods"):
        compare_methods(task_file(), ["lora", "lora"])


def test_rates_cannot_be_tried_on_a_handful_of_rows(task_file):
    from tunewise.tuning_compared import compare_methods

    with pytest.raises(SettingError, match="rates are tried on 8 rows or more, got 4"):
        compare_methods(task_file(), ["full", "lora"], rate_rows=4)
