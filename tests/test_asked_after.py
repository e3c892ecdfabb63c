"""What is asked after the climb can fail, and the decision stands."""

import json
from types import SimpleNamespace

import httpx
import pytest

import tunewise
from tunewise.models.endpoint import EndpointDoor, Patience

RUNGS = ["zero-shot", "constrained"]
SCHEMA = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
TASK = """\
name: words
instruction: Give the word as JSON.
examples: rows.jsonl
metric: json_fields
target: 0.8
model: {endpoint: "http://host.test/v1", name: m, concurrency: 1}
output: {json_schema: s.json}
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A task at an endpoint that answers right; ``fails(body)`` says with which status it does not."""
    found = SimpleNamespace(task=tmp_path / "task.yaml", calls=[], fails=lambda body: None)

    def reply(http_request):
        body = json.loads(http_request.content)
        found.calls.append(body)
        if (status := found.fails(body)) is not None:
            return httpx.Response(status, json={"error": {"message": "not supported here"}})
        text = json.dumps({"word": body["messages"][-1]["content"].split()[2]})
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 5}
        return httpx.Response(200, json={"choices": [choice], "usage": usage})

    def opened(spec, **more):
        quick = Patience(attempts=1, attempts_at_first=1)
        return EndpointDoor(spec, transport=httpx.MockTransport(reply), patience=quick, sleep=lambda s: None)

    monkeypatch.setattr("tunewise.api.open_door", opened)
    rows = [
        {
            "input": f"note {n} word{n} {n * 37 % 101} {n * 91 % 83} {n * 53 % 97}",
            "output": {"word": f"word{n}"},
        }
        for n in range(160)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "s.json").write_text(json.dumps(SCHEMA))
    found.task.write_text(TASK)
    return found


def decide(host, **settings):
    return tunewise.decide(host.task, out=host.task.parent / "run", rungs=settings.pop("rungs", RUNGS))


def on_disk(host):
    return json.loads((host.task.parent / "run/decision.json").read_text())


def held(host):
    return [body for body in host.calls if "response_format" in body]


def test_a_host_that_refuses_response_format_loses_no_decision_and_is_asked_once(host):
    host.fails = lambda body: 400 if "response_format" in body else None
    assert decide(host).choice == "zero-shot"
    [rung] = [r for r in on_disk(host)["rungs"] if r["rung"] == "zero-shot"]
    assert "does not take response_format: HTTP 400" in rung["constrained"]["skipped_because"]
    assert len(held(host)) == 1
    assert (host.task.parent / "run/report.html").is_file()


def test_a_host_that_refuses_the_key_for_grammars_alone_loses_no_decision(host):
    host.fails = lambda body: 403 if "response_format" in body else None
    assert decide(host).choice == "zero-shot"
    assert "HTTP 403" in decide(host).result("zero-shot").constrained["skipped_because"]


def test_constrained_alone_at_a_refusing_host_is_skipped_with_its_words_after_one_call(host):
    host.fails = lambda body: 400 if "response_format" in body else None
    made = decide(host, rungs=["constrained"])
    assert made.choice is None
    assert "m does not take response_format: HTTP 400" in made.result("constrained").skipped_because
    assert len(host.calls) == 1


def test_constrained_is_not_asked_for_after_a_lighter_rung_met(host):
    host.task.write_text(TASK)
    made = decide(host)
    assert "not needed" in made.result("constrained").skipped_because
    selection = made.result("zero-shot").constrained["n"]
    assert len(held(host)) == selection


def test_a_host_that_dies_while_times_are_sampled_loses_no_decision_and_the_next_command_samples_them(host):
    host.task.write_text(TASK + "economics: {queries_per_day: 100, today: zero-shot}\n")
    asked: dict[str, int] = {}

    def dies(body):  # the sample asks again what the climb has asked
        asked[str(body["messages"])] = asked.get(str(body["messages"]), 0) + 1
        return 401 if asked[str(body["messages"])] > 1 else None

    host.fails = dies
    assert decide(host).choice == on_disk(host)["choice"] == "zero-shot"
    assert decide(host).result("zero-shot").probe is None
    host.fails = lambda body: None
    assert len(decide(host).result("zero-shot").probe.calls) == 20
