"""General rows among those of the task: how many, which, and evenly in every window."""

import pytest

from tunewise.progress import Silent
from tunewise.training.mixing import order, plan_mix
from tunewise.training.recipe import Recipe, train


def test_the_arithmetic_of_five_thousand_rows_at_seventy_to_thirty():
    mix = plan_mix(5000, 3000, 0.30, 1.0)
    assert (mix.general, mix.total) == (2142, 7142)
    assert "5,000 task rows + 2,142 general rows = 7,142 in each pass, 30.0% general" in mix.in_words()
    assert "2,142 general rows are drawn from 3,000, none twice" in mix.in_words()


@pytest.mark.parametrize(
    ("task", "share", "general"), [(70, 0.30, 30), (90, 0.1, 10), (7, 0.5, 7), (1, 0.3, 0)]
)
def test_shares_are_exact_where_whole_rows_allow_it(task, share, general):
    assert plan_mix(task, 100, share, 1.0).general == general


@pytest.mark.parametrize("share", [-0.1, 1.0, 30])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share in"):
        plan_mix(10, 10, share, 1.0)


def test_every_window_of_a_pass_holds_the_share_to_one_row():
    mix = plan_mix(5000, 3000, 0.30, 3.0)
    general = [row >= mix.task for epoch in range(3) for row in order(mix, 0, epoch)]
    window = 100 * 8
    for start in range(0, len(general) - window, 7):
        held = sum(general[start : start + window])
        assert abs(held - window * mix.effective) <= 2, start  # one for each pass that the window touches


def test_each_pass_holds_every_task_row_once_in_a_new_order():
    mix = plan_mix(50, 100, 0.30, 2.0)
    first, second = ([row for row in order(mix, 1, epoch) if row < 50] for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_general_rows_come_without_replacement_first_and_then_with_which_is_said():
    mix = plan_mix(70, 50, 0.30, 3.0)
    drawn = [row for epoch in range(3) for row in order(mix, 2, epoch) if row >= 70]
    assert len(drawn) == mix.draws == 90
    assert sorted(drawn[:50]) == list(range(70, 120))  # 30 of the first pass and 20 of the second: each once
    assert "there are only 50" in mix.in_words()
    assert "then 40 more with replacement" in mix.in_words()


def test_the_order_follows_from_the_seed_alone():
    mix = plan_mix(40, 30, 0.30, 1.0)
    assert order(mix, 5, 0) == order(mix, 5, 0)
    assert order(mix, 5, 0) != order(mix, 6, 0)


RECIPE = Recipe(
    learning_rate=2e-3, epochs=2.0, weight_decay=0.01, max_grad_norm=1.0, rank=4, batch_size=8, seed=3,
    precision="fp32", rows_per_pass=4,
)  # fmt: skip


def test_a_mixed_run_stopped_on_the_way_goes_on_to_the_same_weights(tiny, rows, tmp_path):
    class Stop(Exception):
        """Ends a run from within, as a kill would, but cheaper."""

    class StopAtFive:
        def tell(self, event, **facts):
            if facts.get("step") == 5:
                raise Stop

    mix = plan_mix(16, 24, 0.30, 2.0)
    assert mix.total == 22
    whole = train(tiny, rows[:40], (), RECIPE, tmp_path / "whole", Silent(), mix=mix)
    with pytest.raises(Stop):
        train(tiny, rows[:40], (), RECIPE, tmp_path / "cut", StopAtFive(), save_seconds=0.0, mix=mix)
    resumed = train(tiny, rows[:40], (), RECIPE, tmp_path / "cut", Silent(), mix=mix)
    files = [run.snapshots[-1].folder / "adapter_model.safetensors" for run in (whole, resumed)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert whole.facts["mix"] == {"general": 6, "pool": 24, "share": 6 / 22}
    assert whole.facts["steps"] == 6


def test_a_share_that_rounds_to_no_general_row_trains_on_the_tasks_rows_alone(tiny, rows, tmp_path):
    mix = plan_mix(16, 24, 0.02, 2)
    assert mix.general == 0
    mixed = train(tiny, rows, (), RECIPE, tmp_path / "mixed", Silent(), mix=mix)
    assert mixed.snapshots[-1].step == 2 * 16 / RECIPE.batch_size
