"""Training on a machine with a price: counted as it passes, held against the cap, lost by no interrupt."""

import time

import pytest

import tunewise
from tunewise.clocked import Clocked
from tunewise.errors import BudgetEnded
from tunewise.progress import Silent
from tunewise.rungs.learning_curve import Aside
from tunewise.rungs.lora import Lora
from tunewise.spending import Spending
from tunewise.store import Store


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "run.sqlite", {}) as opened:
        yield opened


@pytest.mark.parametrize("aside", [False, True])
def test_training_ends_before_its_money_passes_the_cap_and_what_it_took_is_on_record(store, aside):
    clock, spending = Clock(), Spending(max_usd=0.1)
    clocked = Clocked(Silent(), store, spending, clock)
    told = Aside(clocked, 8) if aside else clocked  # the part of a learning curve, or the rung itself
    steps = 0

    def train():
        nonlocal steps
        with clocked.paying("lora", 36.0):  # a cent a second
            for _ in range(100):
                clock.now += 1
                told.tell("training", step=steps, steps=100)
                steps += 1

    with pytest.raises(
        BudgetEnded, match=r"cap of \$0\.1: \$0\.100000 is spent.*checkpoints are kept.*--max-usd"
    ):
        train()
    assert steps == 9  # the tenth would pass it together with the next step
    assert spending.usd == pytest.approx(0.1)
    assert spending.usd <= 0.1 + 1e-9
    assert store.cost("training", rung="lora") == pytest.approx(0.1)


def test_what_an_interrupted_training_took_is_counted_when_it_is_resumed(store):
    clock, spending = Clock(), Spending()
    clocked = Clocked(Silent(), store, spending, clock)

    def interrupted():
        with clocked.paying("lora", 36.0):
            clock.now += 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with clocked.paying("lora", 36.0):
        clock.now += 2
    assert store.cost("training", rung="lora") == pytest.approx(0.05)
    assert store.spent().usd == spending.usd == pytest.approx(0.05)


def test_a_killed_training_loses_seconds_of_its_account_not_hours(store):
    clock = Clock()
    clocked = Clocked(Silent(), store, Spending(), clock)
    with clocked.paying("lora", 36.0):
        for step in range(60):
            clock.now += 1
            clocked.tell("training", step=step)
        assert store.cost("training", rung="lora") >= 0.01 * (60 - 2 * Clocked.EVERY_SECONDS)


def test_a_machine_without_a_price_costs_nothing(store):
    clock, spending = Clock(), Spending(max_usd=0.0)
    clocked = Clocked(Silent(), store, spending, clock)
    with clocked.paying("lora", None):
        clock.now += 1000
        clocked.tell("training", step=1)
    assert spending.usd == 0


def test_a_run_whose_training_reaches_the_cap_ends_by_budget_and_says_what_it_spent(
    reverse_task, monkeypatch
):
    def train(self, bench):
        for step in range(1000):
            time.sleep(0.005)
            bench.progress.tell("training", rung="lora", step=step, steps=1000)
        raise AssertionError("the cap did not hold")

    monkeypatch.setattr(Lora, "build", train)
    task = reverse_task(rows=200)
    task.write_text(task.read_text() + "tune: {model: embedded, usd_per_hour: 36000}\n")  # 10 USD a second
    made = tunewise.decide(task, out=task.parent / "run", rungs=["zero-shot", "lora"], max_usd=2.0)
    assert (made.ended_by, made.exit_code) == ("budget", 5)
    assert "the budget ended the run" in made.result("lora").skipped_because
    assert 0.5 < made.spent["usd"] < 3
