"""``tunewise estimate`` as a user runs it."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tunewise.cli.main import app
from tunewise.errors import SettingError


def run(*words: str, stdin: str | None = None):
    return CliRunner().invoke(app, ["estimate", *words], input=stdin)


def test_the_table_names_memory_time_money_fits_and_the_rule_of_thumb():
    said = run("Llama-3.1-8B", "--method", "qlora", "--length", "4096", "--gpu", "A100").stdout
    for words in (
        "training: allocated",
        "as nvidia-smi shows it",
        "Parts: weights",
        "the peak is in",
        "Disk:",
        "Time on A100 80GB",
        "Money:",
        "Where it fits",
        "Smallest GPU that fits",
        "Serving: weights",
        "Rule of thumb",
    ):
        assert words in said, words


def test_json_is_one_document():
    done = run("Llama-3.1-8B", "--json", "--gpu", "H100", "--rows", "500", "--epochs", "2", "--adapters", "8")
    document = json.loads(done.stdout)
    assert document["trainable_params"] == 41_943_040
    assert document["time"]["rows"] == 500
    assert document["inference"]["adapters"]["adapters"] == 8


def test_batch_answers_one_line_each_and_goes_on_past_a_bad_one():
    lines = [
        {"id": 1, "model": "Llama 3.1 8B", "method": "lora", "seq_len": 2048, "micro_batch": 1},
        {"id": 2, "model": "no such model", "method": "lora"},
        {"id": 3, "model": "Mistral-7B-v0.1", "method": "full", "seq_len": 2048, "micro_batch": 1},
    ]
    done = run("--batch", "-", stdin="".join(json.dumps(line) + "\n" for line in lines))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["id"] for one in found] == [1, 2, 3]
    assert "error" in found[1]
    assert found[2]["memory"]["allocated_gib"]["expected"] > 60


def test_a_task_file_gives_lengths_rows_epochs_and_rank(tmp_path):
    rows = [{"input": f"say word {n} again and again", "output": "x"} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = "name: t\ninstruction: Do it.\nexamples: rows.jsonl\nmetric: exact\ntarget: 0.9\nmodel: embedded\n"
    (tmp_path / "task.yaml").write_text(text + "training: {epochs: 2, lora_rank: 4}\n")
    done = run("--task", str(tmp_path / "task.yaml"), "--gpu", "cpu", "--json")
    document = json.loads(done.stdout)
    assert document["model"]["name"] == "SmolLM2-135M"
    assert document["setup"]["lora_rank"] == 4
    assert document["time"]["epochs"] == 2
    assert document["lengths"]["rows"] == document["time"]["rows"] < 60


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "expected MODEL"),
        (["Llama-3.1-8B", "--gpu", "T4", "--precision", "bf16"], "T4 has no bf16"),
        (["Llama-3.1-8B", "--targets", "q_porj"], "did you mean 'q_proj'"),
        (["--batch", "no-such-file"], "cannot be read"),
        (["Llama-3.1-8B", "--offload", "all"], "unknown offload 'all'"),
        (["Llama-3.1-8B", "--hardware", "no-such-file"], "cannot be read"),
    ],
)
def test_mistakes_are_user_errors(words, said):
    done = run(*words)
    assert isinstance(done.exception, SettingError)
    assert said in str(done.exception)


def test_the_command_starts_without_heavy_modules():
    """pydantic comes with typer; everything else that takes long stays out."""
    code = (
        "import sys; sys.argv = ['tunewise', 'estimate', 'Llama-3.1-8B'];"
        "from tunewise.cli.main import app; app(standalone_mode=False);"
        "print([m for m in ('torch', 'numpy', 'scipy', 'httpx', 'jinja2', 'rich.table') if m in sys.modules],"
        "file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
