"""``tunewise score`` as a user types it."""

import json

import pytest
from typer.testing import CliRunner

from tunewise.cli.main import app
from tunewise.data import Message
from tunewise.errors import SettingError
from tunewise.models.door import Answer, Decoding, Request

ROWS = [{"id": n, "output": str(n % 3), "reference": "0"} for n in range(30)]


@pytest.fixture
def outputs(tmp_path):
    path = tmp_path / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return str(path)


def run(*arguments: str):
    return CliRunner().invoke(app, ["score", *arguments])


def test_the_table_has_figure_interval_method_and_failures(outputs):
    said = run("--metric", "numeric", outputs).stdout
    assert "0.333" in said
    assert "0.192 to 0.512" in said
    assert "Wilson" in said
    assert "20 below 1, the worst first:" in said
    assert "line 2 (1): 0.00: 0 was expected, got 1" in said
    assert "... and 10 more, all with --json" in said


def test_json_is_one_document(outputs):
    plain = json.loads(run("--metric", "exact", "--json", outputs).stdout)
    assert plain["quality"]["n"] == 30
    assert len(plain["failures"]) == 20


def test_options_and_compare(outputs):
    done = run("--metric", "numeric", "--option", "tolerance=1", outputs, outputs, "--compare")
    assert "One cannot tell whether b is better than a or not worse by 2 points" in done.stdout
    assert "right for both 20, for a alone 0, for b alone 0, for neither 10; McNemar p = 1" in done.stdout
    plain = json.loads(run("--metric", "exact", outputs, outputs, "--compare", "--json").stdout)
    assert plain["answer"] == "cannot_tell"


def test_the_number_of_files_is_checked(outputs):
    with pytest.raises(SettingError, match="one file; two are compared with --compare"):
        raise run("--metric", "exact", outputs, outputs).exception
    with pytest.raises(SettingError, match=r"two files \(a, then b\) expected, got 1"):
        raise run("--metric", "exact", "--compare", outputs).exception


def test_init_tells_what_it_wrote_as_json(tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"input": f"q{n}", "output": f"a{n}"}) + "\n" for n in range(40)))
    done = CliRunner().invoke(app, ["init", str(data), "--json"])
    assert json.loads(done.stdout) == {"task_file": str(tmp_path / "task.yaml"), "examples": str(data)}


def test_answer_names_the_passages_that_were_in_a_prompt(monkeypatch):
    request = Request((Message("user", "q"),), Decoding(8), tag={"passages": ["handbook.md#leave"]})
    monkeypatch.setattr("tunewise.answering.answered", lambda *_, **__: iter([(request, Answer("a"))]))
    done = CliRunner().invoke(app, ["answer", "run"], input="q\n")
    assert json.loads(done.stdout)["passages"] == ["handbook.md#leave"]


@pytest.mark.parametrize("options", [[], ["--json"], ["--compare"], ["--compare", "--json"]])
def test_half_a_surrogate_pair_and_control_characters_are_shown_escaped(tmp_path, options):
    file = tmp_path / "odd.jsonl"
    rows = [{"id": f"{n}\ud800", "output": "\x1b[31m\ud800", "reference": "x"} for n in range(2)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = [str(file)] * (2 if "--compare" in options else 1)
    said = run("--metric", "exact", *options, *files)
    assert said.exit_code == 0
    assert "\x1b" not in said.stdout
    if options == ["--json"]:
        assert [row["output"] for row in json.loads(said.stdout)["failures"]] == ["\x1b[31m\ud800"] * 2
