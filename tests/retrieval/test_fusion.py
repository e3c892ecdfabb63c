"""Reciprocal rank fusion and recall, by hand."""

import pytest

from tunewise.retrieval.fusion import recall_at, reciprocal_rank_fusion


def test_two_rankings_fused_by_hand():
    fused = reciprocal_rank_fusion([[7, 3, 5], [3, 9]])
    # 3: 1/62 + 1/61; 7: 1/61; 9: 1/62; 5: 1/63
    assert [place for place, _ in fused] == [3, 7, 9, 5]
    assert dict(fused) == pytest.approx({3: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62, 5: 1 / 63})


def test_second_in_both_beats_first_in_one():
    assert reciprocal_rank_fusion([[1, 2], [3, 2]])[0][0] == 2


def test_equal_scores_keep_the_order_of_first_appearance():
    assert [place for place, _ in reciprocal_rank_fusion([[4], [2]])] == [4, 2]


def test_nothing_ranked_gives_nothing():
    assert reciprocal_rank_fusion([[], []]) == []


def test_recall_counts_queries_with_a_right_passage_in_the_first_k():
    ranks = [[True, False], [False, True], [False, False], [False]]
    assert recall_at(1, ranks) == 0.25
    assert recall_at(2, ranks) == 0.5


def test_recall_of_no_queries_is_undefined():
    assert recall_at(3, []) is None
