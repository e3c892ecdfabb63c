"""Endpoints: log-probabilities where they are given, else a word that says what is possible."""

import json
import math

import httpx
import pytest

from tunewise.benchmarks.bench import bench
from tunewise.benchmarks.endpoint_scorer import EndpointScorer, offsets
from tunewise.benchmarks.item import Item
from tunewise.errors import DoorError, SettingError
from tunewise.task import EndpointSpec

SPEC = EndpointSpec(endpoint="http://127.0.0.1:9/v1", name="some-model")


def words_server(request):
    """Tokens are words with the space before them; the k-th has probability 1 / (k + 1)."""
    body = json.loads(request.content)
    assert body["echo"]
    prompt = body["prompt"]
    tokens = [t if n == 0 else " " + t for n, t in enumerate(prompt.split(" "))] + [" more"]
    values = [None, *(-math.log(n + 1) for n in range(1, len(tokens)))]
    top = [None, *({"x": value if n % 2 else value + 1} for n, value in enumerate(values[1:], start=1))]
    logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": top}
    return httpx.Response(200, json={"choices": [{"text": prompt, "logprobs": logprobs}]})


def test_the_tokens_after_the_context_are_summed():
    scorer = EndpointScorer(SPEC, httpx.MockTransport(words_server))
    (one,) = scorer.score([Item("1", "a cat ", (" sat", " sat down"), 1)]).items
    # "a cat" holds tokens 0 and 1; the two spaces make an empty word of token 2
    assert one.logprobs == pytest.approx((-math.log(12), -math.log(60)))
    (word,) = scorer.score([Item("2", "a", (" b",))]).items
    assert word.greedy == (True,)


def test_a_text_is_scored_from_its_second_token_on():
    scorer = EndpointScorer(SPEC, httpx.MockTransport(words_server))
    (one,) = scorer.score([Item("1", "", ("one two three",))]).items
    assert one.logprobs == (pytest.approx(-math.log(6)),)
    assert one.bytes == len(" two three")


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(400, json={"error": {"message": "echo is not supported"}}),
        httpx.Response(200, json={"choices": [{"text": "x", "logprobs": None}]}),
        httpx.Response(200, json={"choices": [{"logprobs": {"tokens": ["x"], "token_logprobs": [-1.0]}}]}),
    ],
    ids=["refused", "ignored", "only the written token"],
)
def test_an_endpoint_without_them_says_what_can_be_measured(reply):
    scorer = EndpointScorer(SPEC, httpx.MockTransport(lambda _: reply))
    with pytest.raises(SettingError, match="only ifeval can be measured there") as told:
        scorer.score([Item("1", "a", (" b",))])
    assert (reply.status_code == 200) != ("HTTP 400" in str(told.value) and "echo is not" in str(told.value))


def refusing(longest):
    """As words_server, but a prompt of more characters is more than fits."""

    def answer(request):
        if len(json.loads(request.content)["prompt"]) > longest:
            return httpx.Response(400, json={"error": {"message": "maximum context length exceeded"}})
        return words_server(request)

    return httpx.MockTransport(answer)


def test_an_item_that_the_endpoint_refuses_is_left_out_and_named_never_right():
    scorer = EndpointScorer(SPEC, refusing(30))
    short, long = Item("short", "a", (" b",)), Item("long", "a " * 40, (" b",))
    outcome = scorer.score([long, short])
    assert [one.id for one in outcome.items] == ["short"]
    assert outcome.errored == ("long",)
    with pytest.raises(DoorError, match="refused every one of 1 items"):
        scorer.score([long])


def test_without_first_choices_a_last_word_is_not_counted_as_wrong_but_refused():
    def answer(request):
        body = words_server(request).json()
        del body["choices"][0]["logprobs"]["top_logprobs"]
        return httpx.Response(200, json=body)

    scorer = EndpointScorer(SPEC, httpx.MockTransport(answer))
    assert scorer.score([Item("1", "a", (" b", " c d"))]).items[0].pick == 0
    with pytest.raises(SettingError, match="Leave lambada out"):
        scorer.score([Item("2", "a", (" b",))])


def test_what_an_endpoint_cannot_be_asked_is_left_out_with_the_reason(tmp_path, monkeypatch):
    (tmp_path / "lambada.jsonl").write_text('{"context": "a b", "continuation": "c"}\n')
    (tmp_path / "piqa.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer_index": 0}\n')

    def without_top(request):
        body = words_server(request).json()
        body["choices"][0]["logprobs"]["top_logprobs"] = None
        return httpx.Response(200, json=body)

    scorer = EndpointScorer(SPEC, httpx.MockTransport(without_top))
    monkeypatch.setattr("tunewise.benchmarks.bench.scorer_of", lambda *_: scorer)
    report = bench("http://127.0.0.1:9/v1", name="some-model", data=tmp_path)
    assert [one.benchmark.name for one in report.measured] == ["piqa"]
    assert "Leave lambada out" in dict(report.left_out)["lambada"]
    with pytest.raises(SettingError, match="Leave lambada out"):
        bench("http://127.0.0.1:9/v1", name="some-model", data=tmp_path, tasks=["lambada"])


def test_two_models_at_one_address_are_told_apart_by_their_names(tmp_path, monkeypatch):
    (tmp_path / "piqa.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer_index": 0}\n')
    asked = []

    def answer(request):
        asked.append(json.loads(request.content)["model"])
        return words_server(request)

    monkeypatch.setattr(
        "tunewise.benchmarks.bench.EndpointScorer",
        lambda spec: EndpointScorer(spec, httpx.MockTransport(answer)),
    )
    url = "http://127.0.0.1:9/v1"
    report = bench(url, name="base", compare_name="tuned", data=tmp_path, tasks=["piqa"])
    assert set(asked) == {"base", "tuned"}
    assert (report.compared_with, report.comparisons[0].lost) == (f"tuned at {url}", 0)
    with pytest.raises(SettingError, match="--compare-name names a model at an endpoint"):
        bench(tmp_path, compare_name="tuned", data=tmp_path, tasks=["piqa"])
    with pytest.raises(SettingError, match="compared with itself"):
        bench(url, name="base", compare_with=url, data=tmp_path, tasks=["piqa"])


def test_an_endpoint_that_fails_is_a_failure_of_the_world(monkeypatch):
    monkeypatch.setattr("tunewise.benchmarks.endpoint_scorer.time.sleep", lambda _: None)
    with pytest.raises(DoorError, match="HTTP 503"):
        EndpointScorer(SPEC, httpx.MockTransport(lambda _: httpx.Response(503))).score(
            [Item("1", "a", (" b",))]
        )


def test_a_token_that_the_server_puts_before_the_prompt_is_left_out():
    found = {"tokens": ["<s>", "One", " two"], "token_logprobs": [None, -2.0, -1.0], "top_logprobs": None}
    assert offsets(found, "One two") == [(0, 3, -2.0, None), (3, 7, -1.0, None)]


def test_tokens_that_do_not_make_up_the_prompt_are_refused():
    with pytest.raises(ValueError, match="not those of the prompt"):
        offsets({"tokens": ["b"], "token_logprobs": [None]}, "a")


def test_an_address_needs_the_name_of_its_model(tmp_path):
    (tmp_path / "piqa.jsonl").write_text('{"question": "a", "choices": ["b", "c"], "answer_index": 0}\n')
    with pytest.raises(SettingError, match="--name"):
        bench("http://127.0.0.1:9/v1", data=tmp_path, tasks=["piqa"])
