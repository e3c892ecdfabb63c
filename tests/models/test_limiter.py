"""Additive increase, multiplicative decrease, by a clock that the test turns."""

import threading
import time

from tunewise.models.limiter import AdaptiveLimit


def test_one_burst_of_429s_halves_once_and_the_next_one_again() -> None:
    now = [0.0]
    limit = AdaptiveLimit(16, clock=lambda: now[0])
    now[0] = 1.0
    for _ in range(5):
        limit.throttled(started=0.5, wait_s=None)
    assert limit.limit == 8
    now[0] = 2.0
    limit.throttled(started=1.5, wait_s=None)
    assert limit.limit == 4


def test_the_limit_never_falls_below_one() -> None:
    now = [0.0]
    limit = AdaptiveLimit(2, clock=lambda: now[0])
    for step in range(1, 6):
        now[0] = float(step)
        limit.throttled(started=step - 0.5, wait_s=None)
    assert limit.limit == 1


def test_a_round_of_successes_adds_about_one_up_to_the_most() -> None:
    limit = AdaptiveLimit(8, clock=lambda: 1.0)
    limit.throttled(started=0.5, wait_s=None)
    assert limit.limit == 4
    for _ in range(4):
        limit.succeeded()
    assert 4.8 < limit.limit <= 5
    for _ in range(100):
        limit.succeeded()
    assert limit.limit == 8


def test_never_more_are_under_way_than_the_limit_and_all_get_their_turn() -> None:
    limit = AdaptiveLimit(3)
    lock = threading.Lock()
    under_way, peak, done = 0, 0, 0

    def work() -> None:
        nonlocal under_way, peak, done
        with limit:
            with lock:
                under_way += 1
                peak = max(peak, under_way)
            time.sleep(0.002)
            with lock:
                under_way -= 1
                done += 1
        limit.succeeded()

    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    limit.throttled(started=time.monotonic(), wait_s=None)
    for thread in threads:
        thread.join(timeout=10)
    assert (peak, done) == (3, 40)


def test_nothing_starts_while_the_host_asks_for_quiet() -> None:
    limit = AdaptiveLimit(4)
    began = time.monotonic()
    limit.throttled(started=began, wait_s=0.1)
    with limit:
        assert time.monotonic() - began >= 0.1
