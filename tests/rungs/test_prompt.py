"""One layout for all rungs: what stands where, what is never read, what is dropped when room is short."""

from dataclasses import replace

import pytest

from tunewise.data import Message
from tunewise.errors import DataError
from tunewise.models.door import Decoding
from tunewise.models.scripted import ScriptedDoor
from tunewise.retrieval.chunking import Chunk
from tunewise.retrieval.index import Retriever
from tunewise.rungs.prompt import NearestShots, PromptCandidate, PromptLayout, Shot, layout_of, prompt_tokens

DECODING = Decoding(max_new_tokens=5)
CHUNKS = [
    Chunk("a.md#rail", "a.md", "Rail", "Second class by rail."),
    Chunk("a.md#air", "a.md", "Air", "No first class by air or rail."),
]


def door(window=None):
    return ScriptedDoor(lambda messages: "x", context_window=window)


def texts(request):
    return [(m.role, m.content) for m in request.messages]


def test_order_is_instruction_shots_passages_with_the_best_last_question(make_row):
    shot = Shot.of(make_row("how by bus?", "cheaply"), passages=(CHUNKS[1],))
    layout = PromptLayout("Be brief.", DECODING, shots=(shot,), passages=2)
    candidate = PromptCandidate("rag", door(), layout, retriever=Retriever(CHUNKS))
    request = candidate.request(make_row("how by rail?"))
    assert texts(request) == [
        ("system", "Be brief."),
        ("user", "Context:\nAir\nNo first class by air or rail.\n\nQuestion: how by bus?\nAnswer:"),
        ("assistant", "cheaply"),
        (
            "user",
            "Context:\n[1] Air\nNo first class by air or rail.\n\n[2] Rail\nSecond class by rail.\n\n"
            "Question: how by rail?\nAnswer:",
        ),
    ]
    assert request.tag == {"shots": [shot.key], "passages": ["a.md#rail", "a.md#air"]}
    assert request.decoding is DECODING


def test_without_instruction_shots_and_passages_the_chat_is_left_as_it_is(make_row):
    turns = (Message("user", "hi"), Message("assistant", "yes?"), Message("user", "help"))
    request = PromptCandidate("zero-shot", door(), PromptLayout(None, DECODING)).request(
        make_row("help", turns=turns)
    )
    assert request.messages == turns
    assert request.tag == {}


def test_a_system_turn_of_the_input_joins_the_instruction_and_one_of_a_shot_is_left_out(make_row):
    turns = (Message("system", "You are a clerk."), Message("user", "q"))
    shot = Shot.of(make_row("s", "a", turns=(Message("system", "other"), Message("user", "s"))))
    candidate = PromptCandidate("few-shot", door(), PromptLayout("Be brief.", DECODING, shots=(shot,)))
    assert texts(candidate.request(make_row("q", turns=turns))) == [
        ("system", "Be brief.\n\nYou are a clerk."),
        ("user", "s"),
        ("assistant", "a"),
        ("user", "q"),
    ]


def test_references_and_named_passages_of_the_input_change_nothing(make_row):
    rows = [make_row("how by rail?", "second"), make_row("by air", "economy")]
    candidate = PromptCandidate(
        "rag",
        door(),
        PromptLayout("i", DECODING, nearest=2, passages=1),
        retriever=Retriever(CHUNKS),
        nearest=NearestShots([Shot.of(r) for r in rows]),
    )
    plain = make_row("what by rail and air?")
    told = replace(plain, key="other", references=("No first class by air or rail.",), passages=("a.md#air",))
    assert candidate.request(plain) == candidate.request(told)
    assert candidate.request(plain).tag == candidate.request(told).tag


def test_nearest_shots_come_nearest_last_and_never_the_input_itself(make_row):
    rows = [
        make_row("refund for order", "a"),
        make_row("card was lost", "b"),
        make_row("Lost  CARD abroad", "c"),
        make_row("my card was lost abroad", "d"),
    ]
    nearest = NearestShots([Shot.of(r) for r in rows])
    found = nearest.find((Message("user", "lost card abroad"),), 3)
    assert [shot.answer for shot in found] == ["a", "b", "d"]
    assert nearest.find((Message("user", "zzz"),), 2)[-1].answer == "a"


def test_what_does_not_fit_is_dropped_from_the_far_end_and_counted(make_row):
    shots = tuple(Shot.of(make_row(f"shot {i} with four", f"a{i}")) for i in range(3))  # 5 words each
    layout = PromptLayout("Be brief.", DECODING, shots=shots, passages=2)
    example = make_row("how by rail?")
    wide = PromptCandidate("rag", door(), layout, retriever=Retriever(CHUNKS))
    full = prompt_tokens(wide.door, wide.request(example).messages)

    def at(window):
        return replace(wide, door=door(window)).request(example)

    assert at(full + 5) == wide.request(example)
    assert at(full + 4).tag == {
        "shots": [shot.key for shot in shots[1:]],
        "passages": ["a.md#rail", "a.md#air"],
        "dropped_shots": 1,
    }
    assert at(full + 5 - 15 - 1).tag == {"passages": ["a.md#rail"], "dropped_shots": 3, "dropped_passages": 1}
    assert at(10).messages == (Message("system", "Be brief."), Message("user", "how by rail?"))


def test_a_bare_prompt_that_does_not_fit_names_the_row(make_row):
    candidate = PromptCandidate("zero-shot", door(9), PromptLayout("Be brief.", DECODING))
    with pytest.raises(DataError, match=r"rows\.jsonl:17: the prompt has 5 tokens .* window of 9"):
        candidate.request(make_row("how by rail?", source="rows.jsonl", line=17))


def test_where_tokens_cannot_be_counted_bytes_over_three_stand_in():
    class Blind(ScriptedDoor):
        def count_tokens(self, messages):
            return None

    messages = (Message("system", "ab"), Message("user", "é" * 5))
    assert prompt_tokens(Blind(lambda m: "x"), messages) == 4 + 2 * 8  # 12 bytes


def test_facts_are_added_and_the_layout_follows_the_task(make_bench):
    bench = make_bench(lambda messages: "x", seed=4)
    layout = layout_of(bench)
    assert (layout.instruction, layout.decoding) == ("Answer in one word.", Decoding(256, 0.0, 4))
    candidate = PromptCandidate("zero-shot", bench.door, layout, built={"k": 0}).with_facts(seconds=1)
    assert candidate.facts() == {"k": 0, "seconds": 1}
