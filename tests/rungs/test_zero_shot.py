"""Zero-shot helps wherever something says what is wanted."""

from tunewise.data import Message
from tunewise.rungs.zero_shot import ZeroShot


def test_it_is_skipped_only_when_nothing_says_what_is_wanted(make_bench, make_row):
    rows = [make_row("a", "b")]

    def reason(train, instruction=None):
        bench = make_bench(lambda m: "x", train=train, selection=rows, instruction=instruction)
        return ZeroShot().cannot_help(bench)

    assert "no instruction" in reason(rows)
    assert reason(rows, instruction="Do it.") is None
    assert reason([make_row("a", "b", fields={"instruction": "Sort it."})]) is None
    chat = (Message("system", "You sort."), Message("user", "a"))
    assert reason([make_row("a", "b", turns=chat)]) is None


def test_it_asks_nothing_to_be_built(make_bench, make_row):
    bench = make_bench(lambda m: "x", selection=[make_row("a", "b")])
    candidate = ZeroShot().build(bench)
    assert candidate.rung == "zero-shot"
    assert [m.content for m in candidate.request(make_row("a")).messages] == ["Answer in one word.", "a"]
    assert bench.calls.sent == []
    assert ZeroShot().outlook(bench).build_calls == 0


def test_rows_that_are_whole_prompts_need_no_instruction(make_bench, make_row):
    for field in ("prompt", "messages", "conversations"):
        rows = [
            make_row("Name the capital of France.", "Paris", fields={field: "Name the capital of France."})
        ]
        bench = make_bench(lambda m: "x", train=rows, selection=rows, instruction=None)
        assert ZeroShot().cannot_help(bench) is None
