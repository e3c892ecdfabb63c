"""Answering new inputs: calls at once, answers in order, and no money without a yes."""

import json
import threading
import time
from io import StringIO
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import tunewise
from tunewise.cli.main import _ask_at_terminal, app
from tunewise.data import Message
from tunewise.errors import BudgetEnded, DataError, DoorError, SettingError
from tunewise.inputs import read_inputs
from tunewise.models.asking import ask_in_order, bound
from tunewise.models.door import Answer, Decoding, Price, Request
from tunewise.models.endpoint import EndpointDoor
from tunewise.models.scripted import ScriptedDoor
from tunewise.planning import Plan
from tunewise.spending import Spending
from tunewise.task import EndpointSpec


def requests(count: int) -> list[Request]:
    return [Request((Message("user", f"say {n}"),), Decoding(max_new_tokens=4)) for n in range(count)]


def test_as_many_calls_run_at_once_as_the_door_takes_and_answers_come_in_order():
    together = threading.Barrier(8, timeout=20)  # broken, and an error, unless eight calls meet

    def late(messages):
        together.wait()
        time.sleep(0.01 if messages[-1].content.endswith(("0", "2")) else 0)
        return messages[-1].content

    answers = list(ask_in_order(ScriptedDoor(late, concurrency=8), requests(24)))
    assert [answer.text for answer in answers] == [f"say {n}" for n in range(24)]


def test_a_door_that_fails_gives_the_answers_before_it_and_is_asked_no_more():
    asked = []

    def breaks(messages):
        asked.append(messages[-1].content)
        if messages[-1].content == "say 3":
            raise DoorError("gone")
        return "yes"

    got = ask_in_order(ScriptedDoor(breaks), requests(20))
    assert [next(got).text for _ in range(3)] == ["yes"] * 3
    with pytest.raises(DoorError):
        next(got)
    assert len(asked) == 4


def test_a_cap_is_never_passed_with_calls_in_flight_and_all_that_fits_is_answered():
    door = ScriptedDoor(
        lambda messages: Answer("yes", tokens_in=2, tokens_out=1),
        price=Price(1.0, 4.0),
        host="model.invalid",
        concurrency=8,
    )
    most = bound(door, requests(1)[0])
    cap = 1.5 * most
    spending = Spending(max_usd=cap)
    got = ask_in_order(door, requests(400), spending)
    answers = []
    with pytest.raises(BudgetEnded):
        answers.extend(got)
    each = door.price.of(2, 1)
    assert spending.usd <= cap
    # a call fits as long as its bound does: (cap - bound) / price of one, and the one that reaches it
    assert len(answers) == int((cap - most) / each) + 1


@pytest.fixture
def priced_run(reverse_task):
    """A finished run whose model is, by its task.json, a host with a price."""
    task = reverse_task(rows=160)
    run = task.parent / "run"
    tunewise.decide(task, out=run, rungs=["zero-shot"])
    saved = json.loads((run / "task.json").read_text())
    price = {"input": 1, "output": 4}
    saved["model"] = {"endpoint": "https://model.invalid/v1", "name": "m", "usd_per_million": price}
    (run / "task.json").write_text(json.dumps(saved))
    path = run / "rungs/zero-shot/candidate.json"
    built = json.loads(path.read_text())
    built["door"]["fingerprint"] = EndpointDoor(EndpointSpec(**saved["model"])).fingerprint
    path.write_text(json.dumps(built))
    return run


def test_priced_answers_need_a_yes_or_a_cap_and_say_what_they_cost(priced_run):
    with pytest.raises(SettingError, match=r"2 calls to model\.invalid \(model\) cost money \(up to 0\.00"):
        next(tunewise.answer(priced_run, ["a", "b"], rung="zero-shot"))
    with pytest.raises(BudgetEnded):  # agreed to, and ended before the first call
        next(tunewise.answer(priced_run, ["a", "b"], rung="zero-shot", max_usd=0))


def test_a_cap_on_answers_of_a_host_without_a_price_is_refused(priced_run):
    saved = json.loads((priced_run / "task.json").read_text())
    saved["model"]["usd_per_million"] = None
    (priced_run / "task.json").write_text(json.dumps(saved))
    with pytest.raises(SettingError, match="cannot be kept"):
        next(tunewise.answer(priced_run, ["a"], rung="zero-shot", max_usd=1))


def test_a_byte_order_mark_is_no_part_of_an_input_and_a_broken_row_no_text(tmp_path):
    row = '\ufeff{"input": "number 4", "output": "even"}\r\n'
    shown, turns = read_inputs("-", StringIO(row))[0]
    assert (shown, [turn.content for turn in turns]) == ("number 4", ["number 4"])
    (tmp_path / "a.txt").write_text("\ufeffnumber 4\r\n{name}, hello\n", encoding="utf-8")
    assert [shown for shown, _ in read_inputs(str(tmp_path / "a.txt"), StringIO())] == [
        "number 4",
        "{name}, hello",
    ]
    with pytest.raises(DataError, match="standard input:2: broken JSON at column"):
        read_inputs("-", StringIO('first\n{"input": "number 4"\n'))


def test_json_holds_the_answers_that_came_before_a_failure(monkeypatch, tmp_path):
    def fails_after_two(run, asked, **more):
        for text in ("one", "two"):
            yield Request((), Decoding()), Answer(text)
        raise DoorError("the host is gone")

    monkeypatch.setattr("tunewise.answering.answered", fails_after_two)
    (tmp_path / "new.txt").write_text("a\nb\nc\n")
    done = CliRunner().invoke(app, ["answer", str(tmp_path), str(tmp_path / "new.txt"), "--json"])
    assert isinstance(done.exception, DoorError)
    assert [row["output"] for row in json.loads(done.stdout)] == ["one", "two"]


def test_the_plan_that_is_agreed_to_leaves_standard_output_to_json(monkeypatch, capsys):
    plan = Plan("p", ("a line of the plan",), (), (), False, "no price", None)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", lambda *said, **more: True)
    assert _ask_at_terminal(plan)
    out, err = capsys.readouterr()
    assert out == ""
    assert "a line of the plan" in err
