"""Texts that repeat themselves: a small model that has lost its thread. They are in no voice."""

from collections.abc import Sequence

LONGEST = 12  # words of a repeated piece
REPEATS = 4
SHARE = 0.5  # of the words, taken up by one run of repeats
FEWEST_WORDS = 8


def loops(words: Sequence[str]) -> bool:
    """Whether a piece of 1 to 12 words, said at least 4 times in a row, makes up half of these words."""
    if len(words) < FEWEST_WORDS:
        return False
    return any(
        _run(words, period) >= max(REPEATS * period, SHARE * len(words)) for period in range(1, LONGEST + 1)
    )


def _run(words: Sequence[str], period: int) -> int:
    """The most words in a row of which each is the one ``period`` before, with the first piece."""
    longest = run = 0
    for place in range(period, len(words)):
        run = run + 1 if words[place] == words[place - period] else 0
        longest = max(longest, run)
    return longest + period if longest else 0
