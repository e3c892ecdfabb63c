"""One ranking out of several."""

from collections.abc import Sequence

RANK_CONSTANT = 60


def reciprocal_rank_fusion(
    rankings: Sequence[Sequence[int]], constant: int = RANK_CONSTANT
) -> list[tuple[int, float]]:
    """(place, score) of everything that was ranked, best first.

    score(d) = sum over rankings that hold d of 1 / (constant + rank of d), ranks counted from 1
    (Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet ...", SIGIR 2009,
    with their constant 60). Equal scores keep the order of first appearance.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, place in enumerate(ranking, start=1):
            scores[place] = scores.get(place, 0.0) + 1.0 / (constant + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def recall_at(k: int, rankings: Sequence[Sequence[bool]]) -> float | None:
    """Share of queries with a right passage among the first k; None without queries.

    rankings: for each query, whether the passage at each rank is a right one. With one right
    passage per query this is recall@k; with several it is the rate of at least one (hit rate).
    """
    if not rankings:
        return None
    return sum(any(ranks[:k]) for ranks in rankings) / len(rankings)
