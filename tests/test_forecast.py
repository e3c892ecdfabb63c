"""What every rung would take, before anything runs: against hand calculations."""

import json
import socket
import subprocess
import sys

import pytest

import tunewise
from tunewise.errors import SettingError
from tunewise.forecast import RungForecast, break_even

TASK = """\
name: priced
instruction: Reverse the last word.
examples: rows.jsonl
metric: exact
target: 0.9
model: {endpoint: "https://models.example.com/v1", name: big, usd_per_million: {input: 1.0, output: 4.0}}
tune: {model: embedded, usd_per_hour: 0.5}
decoding: {max_new_tokens: 8}
"""


@pytest.fixture
def priced(reverse_task, monkeypatch):
    """A task at a priced host that must not be called."""
    path = reverse_task(rows=200)
    path.write_text(TASK, encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a plan must not reach for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    return path


def rung(**figures) -> RungForecast:
    return RungForecast(rung="x", skipped_because=None, **figures)


def test_the_break_even_volume_is_the_price_of_building_over_what_a_query_saves():
    today = rung(usd_per_query=(0.002, 0.004))
    tuned = rung(usd_per_query=(0.0005, 0.0015), build_usd=(1.0, 3.0))
    found = break_even(tuned, today, "few-shot", 50)
    assert found.queries == pytest.approx(2.0 / (0.003 - 0.001))
    assert found.per_day == pytest.approx(1000 / 50)


def test_a_break_even_volume_that_does_not_exist_says_why():
    today = rung(usd_per_query=(0.001, 0.001))
    assert break_even(rung(usd_per_query=None), today, "few-shot", 90).why == "a price is missing"
    dear = break_even(rung(usd_per_query=(0.01, 0.01), build_usd=(0, 0)), today, "few-shot", 90)
    assert (dear.queries, dear.per_day) == (None, None)
    assert "no less" in dear.why
    assert "not in play" in break_even(today, None, "few-shot", 90).why


def test_every_rung_has_its_figures_and_says_what_would_leave_to_which_host(priced):
    found = {rung.rung: rung for rung in tunewise.plan(priced).rungs}
    zero, few, lora = found["zero-shot"], found["few-shot"], found["lora"]
    assert zero.calls[0] < zero.calls[1]
    assert zero.usd[1] == pytest.approx((zero.tokens_in[1] * 1.0 + zero.tokens_out[1] * 4.0) / 1e6)
    assert zero.usd_per_query[0] <= zero.usd[0] / zero.calls[0] <= zero.usd_per_query[1] + 1e-12
    assert zero.host == "models.example.com"
    assert "train rows with their answers" not in zero.leaves
    assert "train rows with their answers" in few.leaves
    assert few.build_usd[1] > zero.build_usd[1] == 0.0
    assert (lora.host, lora.leaves) == (None, ())
    assert lora.train_tokens > 0
    assert 0 < lora.seconds[0] < lora.seconds[1]
    assert 0 < lora.memory_gib[0] < lora.memory_gib[1] < 8
    assert 0 < lora.disk_gib < 1
    assert lora.build_usd[0] > 0
    assert lora.break_even.today == "few-shot"
    assert found["rag"].skipped_because
    assert zero.seconds is None
    assert any("not known before the first call" in note for note in zero.notes)


def test_the_gpu_and_the_rung_of_today_can_be_chosen_and_mistakes_are_named(priced):
    fast = {rung.rung: rung for rung in tunewise.plan(priced, gpu="A100-80").rungs}
    slow = {rung.rung: rung for rung in tunewise.plan(priced).rungs}
    assert fast["lora"].seconds[1] < slow["lora"].seconds[1]
    other = tunewise.plan(priced, today="zero-shot", days=30)
    assert next(r for r in other.rungs if r.rung == "few-shot").break_even.days == 30
    with pytest.raises(SettingError, match="few-shots"):
        tunewise.plan(priced, today="few-shots")
    with pytest.raises(SettingError):
        tunewise.plan(priced, gpu="A1000")


def test_the_command_prints_a_table_for_people_and_one_document_for_programs(priced):
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tunewise", "plan", str(priced), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )

    plain = json.loads(command("--json").stdout)
    assert {"rungs", "headline", "hardware", "warnings"} <= set(plain)
    words = command("--today", "zero-shot").stdout
    assert "go to models.example.com" in words
    assert "lora: nothing leaves this machine" in words
    assert command("--days", "0").returncode == 2
