"""Self-generated replay: general rows whose answers are the base model's own."""

import json
from dataclasses import replace

import pytest

pytest.importorskip("trl")

from tunewise.data import read_inputs
from tunewise.errors import DataError
from tunewise.models.door import Answer
from tunewise.models.scripted import ScriptedDoor
from tunewise.progress import Silent
from tunewise.rungs import tuned
from tunewise.rungs.prompt import layout_of
from tunewise.rungs.replay import general_rows, keys_of
from tunewise.rungs.rung import Workbench
from tunewise.splits import Parts
from tunewise.task import DecodingSettings, Task
from tunewise.task_training import MixSection, Training

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Base:
    """A base model that answers, and counts how often it is asked."""

    def __init__(self, script=None):
        self.asked = 0
        self.door = ScriptedDoor(script or self.say)
        self.fingerprint = self.door.fingerprint

    def say(self, messages):
        number = int(messages[-1].content.split()[1])
        if number % 5 == 1:
            return Answer("on and on", finish="length", tokens_in=3, tokens_out=3)
        if number % 5 == 2:
            return "pub " * 20
        return f"town {number} is cheap"

    def answer(self, requests):
        self.asked += len(requests)
        return self.door.answer(requests)

    def close(self):
        self.door.close()


@pytest.fixture
def general(tmp_path):
    file = tmp_path / "general.jsonl"
    rows = [{"input": f"general {n} food"} for n in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@pytest.fixture
def make_bench(tiny, make_example, tmp_path, general):
    from tunewise.models.local import LocalDoor

    def make(**mix):
        section = MixSection(general=general, replay=True, **mix)
        task = Task.model_construct(
            **{
                **Task(name="t", examples=tmp_path / "none", metric="exact", target=0.8).__dict__,
                "instruction": "name and town",
                "decoding": DecodingSettings(max_new_tokens=4),
                "training": Training(epochs=1.0, lora_rank=4, learning_rate=5e-3, mix=section),
            }
        )
        items = [make_example(number) for number in range(40)]
        return Workbench(
            task=task,
            parts=Parts(tuple(items[:16]), tuple(items[16:20]), tuple(items[20:]), clusters=40),
            door=LocalDoor(tiny),
            tune_door=lambda adapter: LocalDoor(tiny, adapter=adapter),
            tune_door_missing="",
            ask=lambda door, requests, purpose: door.answer(requests),
            score=lambda example, answer: None,
            folder=tmp_path / "rungs",
            seed=0,
            progress=Silent(),
        )

    return make


def test_answers_that_are_cut_off_or_go_in_circles_are_replaced_by_further_ones(make_bench, general):
    bench, base = make_bench(), Base()
    pool = general_rows(bench, base, bench.task.training.mix, wanted=12)
    assert len(pool.rows) == 12
    assert pool.asked == base.asked == 12 + sum(count for _, count in pool.dropped)
    assert set(dict(pool.dropped)) == {"cut off", "in circles"}
    prompts = {example.key: example for example in read_inputs(general).examples}
    for row in pool.rows:
        number = prompts[row.key].input.split()[1]
        assert row.turns == prompts[row.key].turns
        assert row.answer == f"town {number} is cheap"


def test_answers_are_kept_for_the_next_time_and_another_base_is_asked_anew(make_bench):
    bench, base = make_bench(), Base()
    mix = bench.task.training.mix
    first = general_rows(bench, base, mix, wanted=8)
    asked = base.asked
    assert general_rows(bench, base, mix, wanted=8) == first
    assert base.asked == asked
    other = Base(lambda messages: "food in town")
    assert {row.answer for row in general_rows(bench, other, mix, wanted=8).rows} == {"food in town"}


def test_prompts_that_run_out_give_fewer_rows_and_no_usable_answer_is_refused(make_bench):
    bench = make_bench()
    mix = bench.task.training.mix
    pool = general_rows(bench, Base(), mix, wanted=100)
    assert (pool.asked, len(pool.rows)) == (40, 24)
    with pytest.raises(DataError, match=r"none of 40 answers .* raise training\.mix\.max_new_tokens"):
        general_rows(bench, Base(lambda messages: "  "), mix, wanted=100)


def test_the_mix_holds_the_base_models_answers_with_their_stop_token_under_loss(make_bench):
    bench, base = make_bench(share=0.25), Base()
    local = tuned.opened(bench, None)
    base.tokenizer, base.context_window = local.tokenizer, local.context_window
    ready = tuned.prepared(bench, base, layout_of(bench))
    assert ready.mix.general == 5  # 16 * 0.25 / 0.75
    assert len(ready.general.rows) == 5
    for row, example in zip(ready.general.rows, ready.pool.rows, strict=True):
        said = local.tokenizer.decode(row.answer)
        assert said == f"{example.answer}<|im_end|>"
    assert any("the base model answered" in note for note in ready.notes("lora"))
    assert ready.pool.facts()["replay"]["kept"] == 5


def test_what_training_depends_on_changes_with_the_way_general_rows_are_made(make_bench, general):
    mix = make_bench().task.training.mix
    assert keys_of(mix) != keys_of(mix.model_copy(update={"max_new_tokens": 64}))
    rows = [{"input": f"general {n} food", "output": "pub"} for n in range(3)]
    general.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert keys_of(mix)[0] == "replay"
    assert len(keys_of(mix.model_copy(update={"replay": False}))) == 3


def test_a_whole_build_trains_on_them(make_bench, monkeypatch):
    from tunewise.evidence.records import Score

    base = Base()

    def ask(door, requests, purpose):
        return base.answer(requests) if purpose == "replay" else door.answer(requests)

    bench = replace(make_bench(share=0.25), ask=ask, score=lambda example, answer: Score("scored", 0.5))
    facts = tuned.build(bench, "lora").facts()
    assert facts["replay"]["kept"] == 5
    assert facts["mix"]["general"] == 5
