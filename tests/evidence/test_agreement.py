"""Agreement against statsmodels and hand computations; what is undefined is None with a reason."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa

from tunewise.evidence.agreement import agreement, cohen_kappa, counts, gwet_ac1


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=3, max_size=60))
def test_kappa_and_its_error_are_those_of_statsmodels(pairs):
    first, second = zip(*pairs, strict=True)
    table = counts(first, second, "abc")
    if len(set(first)) < 2:
        return
    found, error = cohen_kappa(table)
    with np.errstate(invalid="ignore"):  # its root of -1e-16
        theirs = cohens_kappa(table)
    assert found == pytest.approx(theirs.kappa, abs=1e-12)
    assert found == pytest.approx(cohen_kappa_score(first, second, labels=list("abc")), abs=1e-12)
    assert error**2 == pytest.approx(max(theirs.var_kappa, 0), abs=1e-12)


def test_ac1_by_hand_where_nearly_all_is_one_class():
    # 90 both yes, 5 + 5 differ: raw 0.90; margins 0.95, so pe = 2 * 0.95 * 0.05 = 0.095
    table = np.array([[0, 5], [5, 90]], dtype=float)
    assert gwet_ac1(table) == pytest.approx((0.90 - 0.095) / (1 - 0.095))
    kappa, _ = cohen_kappa(table)
    assert kappa == pytest.approx((0.90 - (0.95**2 + 0.05**2)) / (1 - (0.95**2 + 0.05**2)))
    assert kappa < 0 < gwet_ac1(table)


def test_the_lower_limit_is_that_of_the_two_sided_90_percent_interval():
    people, judge = ["1"] * 30 + ["0"] * 30, ["1"] * 26 + ["0"] * 4 + ["0"] * 27 + ["1"] * 3
    found = agreement(people, judge, ("0", "1"))
    theirs = cohens_kappa(np.array([[27, 3], [4, 26]]))
    assert found.kappa_low == pytest.approx(theirs.kappa - 1.6448536 * theirs.std_kappa)
    assert found.confusion == ((27, 3), (4, 26))
    assert found.raw == pytest.approx(53 / 60)


def test_labels_of_one_class_leave_kappa_undefined_with_the_reason():
    found = agreement(["1"] * 40, ["1"] * 39 + ["0"], ("0", "1"))
    assert found.kappa is None
    assert found.kappa_low is None
    assert "one class only (1)" in found.why
    assert found.raw == pytest.approx(39 / 40)
    assert found.ac1 is not None
    assert agreement([], [], ("0", "1")).why == "no items"
    with pytest.raises(ValueError):
        cohen_kappa(np.array([[0.0, 0.0], [0.0, 40.0]]))


def test_a_judge_that_always_says_yes_has_kappa_0():
    found = agreement(["1", "0"] * 30, ["1"] * 60, ("0", "1"))
    assert found.kappa == 0
    assert found.raw == 0.5
