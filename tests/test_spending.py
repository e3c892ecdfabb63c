"""One cap, checked before each call, never passed however many calls are in flight."""

import threading
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewise.data import Message
from tunewise.errors import BudgetEnded, SettingError
from tunewise.models.door import Decoding, Price, Request
from tunewise.models.embedded import embedded_folder
from tunewise.spending import Spending, upper_bound
from tunewise.store import Spent

money = st.floats(min_value=0, max_value=1, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(
    cap=st.floats(min_value=0, max_value=5),
    calls=st.lists(st.tuples(money, st.floats(min_value=0, max_value=1), st.integers(0, 63)), max_size=300),
)
def test_the_cap_is_never_passed_with_64_calls_in_flight(cap, calls):
    # Each call: its upper bound, the share of it that it really costs, which one in flight returns next.
    spending = Spending(max_usd=cap)
    in_flight, truly_spent, refused = [], Fraction(0), 0
    for upper, share, next_back in calls:
        if len(in_flight) == 64:
            reserved, cost = in_flight.pop(next_back % len(in_flight))
            spending.settle(reserved, cost)
        try:
            reserved = spending.reserve(upper)
        except BudgetEnded:
            refused += 1
            continue
        cost = upper * share
        truly_spent += Fraction(cost)
        in_flight.append((reserved, cost))
        assert truly_spent <= Fraction(cap)
    for reserved, cost in in_flight:
        spending.settle(reserved, cost)
    assert spending.reserved_usd == 0
    assert spending.usd <= cap
    if sum(upper for upper, _, _ in calls) < cap - 1e-6:
        assert refused == 0


def test_threads_that_reserve_at_once_cannot_pass_the_cap_together():
    spending = Spending(max_usd=1.0)
    granted = []

    def work():
        for _ in range(50):
            try:
                granted.append(spending.reserve(0.01))
            except BudgetEnded:
                return

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 100


def test_a_call_whose_price_is_not_told_counts_as_its_upper_bound():
    spending = Spending(max_usd=1.0)
    spending.settle(spending.reserve(0.4), None)
    spending.settle(spending.reserve(0.4), 0.1)
    assert spending.usd == pytest.approx(0.5)


def test_what_earlier_sessions_spent_counts():
    spending = Spending(max_usd=1.0, already=Spent(calls=3, usd=0.9))
    with pytest.raises(BudgetEnded, match=r"cap of \$1: \$0\.900000 is spent.*up to \$0\.200000.*--max-usd"):
        spending.reserve(0.2)
    spending.reserve(0.1)


def test_free_calls_go_on_under_a_cap_of_nothing_and_costs_outside_calls_count():
    spending = Spending(max_usd=0.0)
    spending.settle(spending.reserve(0.0), 0.0)
    with pytest.raises(BudgetEnded):
        spending.reserve(1e-9)
    with_training = Spending(max_usd=1.0)
    with_training.add(0.95)
    with pytest.raises(BudgetEnded):
        with_training.reserve(0.1)


def test_time_is_counted_over_all_sessions_and_checked_before_each_call():
    now = [100.0]
    spending = Spending(max_seconds=60, already=Spent(seconds=50), clock=lambda: now[0])
    spending.reserve(0.0)
    now[0] += 10
    assert spending.seconds == 60
    with pytest.raises(BudgetEnded, match="60 s of 60 s"):
        spending.reserve(0.0)
    with pytest.raises(BudgetEnded):
        spending.check_time()


def test_without_caps_nothing_is_refused():
    spending = Spending(already=Spent(usd=None))
    spending.settle(spending.reserve(1e6), 1e6)
    assert spending.usd == 1e6


def test_the_upper_bound_is_that_of_its_definition():
    request = Request((Message("system", "ü"), Message("user", "abc")), Decoding(max_new_tokens=100))
    tokens = (2 + 3) + 256 + 2 * 32
    assert upper_bound(Price(2.0, 8.0), request) == pytest.approx((tokens * 2 + 100 * 8) / 1e6)
    assert upper_bound(Price(2.0, 8.0, cached_input=3.0), request) > upper_bound(Price(2.0, 8.0), request)


@pytest.mark.model
@pytest.mark.parametrize(
    "text", ["", "plain words " * 50, "ünïcödé 🦊🦊 漢字かな交じり文", "\x00\x01 {[(<|im_start|>", "a" * 400]
)
def test_the_upper_bound_holds_for_a_real_tokenizer_and_its_template(text):
    transformers = pytest.importorskip("transformers")
    try:
        folder = embedded_folder()
    except SettingError as absent:
        pytest.skip(str(absent))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    request = Request((Message("user", text),), Decoding(max_new_tokens=0))
    rendered = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False
    )
    tokens = len(tokenizer(rendered, add_special_tokens=False)["input_ids"])
    assert tokens / 1e6 <= upper_bound(Price(1.0, 1.0), request)


@pytest.mark.parametrize("cap", [float("inf"), float("nan")])
def test_a_cap_that_is_no_amount_is_refused(cap):
    with pytest.raises(SettingError, match="a finite number of US dollars was expected"):
        Spending(max_usd=cap)
