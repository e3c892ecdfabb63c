"""The main job on scripted models: from a task file to a decision, a page and a winner that answers."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import tunewise
from tunewise.errors import RunError, SettingError
from tunewise.store import Store

RUNGS = ["zero-shot", "few-shot", "few-shot-nearest"]


def decide(task: Path, out: str = "run", **settings):
    return tunewise.decide(task, out=task.parent / out, rungs=settings.pop("rungs", RUNGS), **settings)


def test_the_lightest_rung_that_meets_is_chosen_and_the_rest_is_kept_beside_it(reverse_task):
    task = reverse_task()
    made = decide(task)
    assert made.choice == "few-shot-nearest"
    assert [made.result(name).evidence.verdict for name in RUNGS] == ["falls_short", "falls_short", "meets"]
    assert made.result("rag").skipped_because == "not asked for"
    plain = json.loads((task.parent / "run/decision.json").read_text())
    assert plain == json.loads(json.dumps(made.to_json()))
    assert "few-shot-nearest" in (task.parent / "run/report.html").read_text()
    with Store.open(task.parent / "run/run.sqlite", json_settings(task.parent / "run")) as store:
        assert store.verify() == []


def json_settings(run: Path):
    with closing(sqlite3.connect(run / "run.sqlite")) as connection:
        return json.loads(connection.execute("SELECT value FROM meta WHERE name='settings'").fetchone()[0])


def test_the_winner_answers_new_inputs_as_it_was_certified(reverse_task):
    task = reverse_task()
    decide(task)
    answers = list(
        tunewise.answer(task.parent / "run", ["kind3 kind3oak abcdefg", "kind1 kind1fern hgfedcb"])
    )
    assert [a.text for a in answers] == ["gfedcba", "bcdefgh"]


def test_the_same_call_again_asks_nothing_and_decides_the_same(reverse_task):
    task = reverse_task()
    first, second = decide(task), decide(task)
    assert second.spent["calls"] == first.spent["calls"]
    assert [r.evidence for r in first.rungs] == [r.evidence for r in second.rungs]


class Heard:
    """Keeps what was told, by event."""

    def __init__(self):
        self.told = []

    def tell(self, event, **facts):
        self.told.append((event, facts.get("text")))


def test_a_run_that_goes_on_is_no_other_opening_and_another_one_is(reverse_task):
    task = reverse_task()

    def headline(out):
        heard = Heard()
        decide(task, out, rungs=["zero-shot"], progress=heard)
        return dict(heard.told)["plan"]

    first = headline("run")
    assert "opening" not in first
    assert headline("run") == first
    assert "at their opening number 2" in headline("other")
    assert headline("run") == first


def test_answers_that_were_cut_off_are_told_as_such(reverse_task):
    task = reverse_task(model='{scripted: "talking_script:reply"}')
    task.write_text(task.read_text() + "decoding: {max_new_tokens: 3}\n")
    script = "def reply(messages):\n    return 'well it is not easy to say'\n"
    (task.parent / "talking_script.py").write_text(script)
    made = decide(task, rungs=["zero-shot"])
    evidence = made.result("zero-shot").evidence
    cut = sum(outcome.text == "well it is" for outcome in evidence.outcomes)
    said = f"{cut} of {len(evidence.outcomes)} answers were cut off at decoding.max_new_tokens (3)"
    assert cut > 8
    assert said in evidence.notes
    assert any("decoding.max_new_tokens may be too low" in line for line in made.what_would_change_this)
    assert said in (task.parent / "run/report.html").read_text()


def test_exhaustive_reads_every_item_and_keeps_the_verdicts_of_the_test(reverse_task):
    task = reverse_task()
    quick, full = decide(task), decide(task, out="full", exhaustive=True)
    assert full.choice == quick.choice
    for name in RUNGS:
        everything = full.to_json()["rungs"][RUNGS.index(name)]["all_items"]
        assert everything["n"] == full.data["certification"]


def test_budget_is_shared_by_the_rungs_in_play_and_halved_at_every_opening(reverse_task):
    task = reverse_task()
    first = decide(task)
    assert first.result("zero-shot").evidence.alpha == pytest.approx(0.05 / 2 / 3)
    second = decide(task, out="again", seed=1)
    assert second.openings["number"] == 2
    assert second.result("zero-shot").evidence.alpha == pytest.approx(0.05 / 4 / 3)


def test_another_setting_on_the_same_folder_is_refused_with_the_difference(reverse_task):
    task = reverse_task()
    decide(task)
    with pytest.raises(RunError, match="seed"):
        decide(task, seed=7)


def test_an_unknown_rung_is_named_with_those_that_exist(reverse_task):
    with pytest.raises(SettingError, match="few-shot-nearest"):
        decide(reverse_task(), rungs=["few-shots"])


def test_a_run_that_falls_short_everywhere_has_no_winner_to_answer_with(reverse_task):
    task = reverse_task()
    made = decide(task, rungs=["zero-shot", "few-shot"])
    assert (made.choice, made.exit_code) == (None, 3)
    with pytest.raises(RunError, match="no rung meets"):
        next(tunewise.answer(task.parent / "run", ["x"]))


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunewise", *arguments], capture_output=True, text=True, check=False
    )


def test_the_command_prints_one_json_document_and_its_exit_code_is_the_verdict(reverse_task):
    task = reverse_task()
    done = command(
        "decide", str(task), "--out", str(task.parent / "run"), "--rungs", ",".join(RUNGS), "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["choice"] == "few-shot-nearest"
    assert "zero-shot" in done.stderr
    again = command("report", str(task.parent / "run"))
    assert "Use few-shot-nearest" in again.stdout


def test_check_reports_the_data_what_it_can_prove_and_the_plan_without_a_call(reverse_task):
    task = reverse_task()
    done = command("check", str(task), "--json")
    plan = json.loads(done.stdout)
    assert plan["parts"]["certification"] > 100
    assert 0.9 < plan["provable"] < 1
    assert not (task.parent / "runs").exists()
    words = command("check", str(task)).stdout
    assert "you can prove a system" in words
    assert "nothing leaves this machine" in words
