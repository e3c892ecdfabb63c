"""Signs of degeneration in written answers, compared with the base model on the same prompts. Pure.

Healthy small models loop now and then under greedy decoding, and a compression ratio depends on length; no
threshold on one model's answers means much. So every sign is compared pairwise with the base, prompt by
prompt.
"""

import math
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.stats import t

from tunewise.benchmarks.figures import UNDEFINED, Figure, paired_difference
from tunewise.models.door import Answer

LOOPS_FROM = 3  # times a stretch stands at the end of an answer
SHORTEST_LOOP = 12  # characters of all its repetitions together, so that "ha ha ha" is none
REPEATS_FROM = 0.3  # share of repeated 4-grams that is a sign of degeneration
LEVEL = 0.99  # of each interval: several signs are looked at
WORSE_TEXT = 0.05  # more bits for the same text, relative; less is the price of any specialisation
FEWEST_WORDS = 8  # below that a repetition of 4-grams says nothing


def repeated_share(text: str, n: int = 4) -> float | None:
    """1 - different n-grams / n-grams of words (Welleck et al. 2020, section 6). None: too short."""
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    if len(words) < max(n, FEWEST_WORDS):
        return None
    grams = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
    return 1 - len(set(grams)) / len(grams)


def loop_period(text: str, times: int = LOOPS_FROM) -> int | None:
    """Characters of the shortest stretch that stands at the end ``times`` times in a row; None without one.

    By the failure function of Knuth, Morris & Pratt 1977 on the reversed text: the shortest period of a
    prefix of length m is m - failure[m]. An unfinished repetition at the very end is allowed for.
    """
    backwards = text.rstrip()[::-1]
    for cut in range(min(len(backwards), 80)):  # the last repetition may be cut off anywhere
        period = shortest_period(backwards[cut:], times)
        if period is not None and (cut < period):
            return period
    return None


def shortest_period(text: str, times: int) -> int | None:
    """The shortest p such that the first p * times characters repeat the first p; None without one."""
    failure = [0] * (len(text) + 1)
    length = 0
    best: int | None = None
    for place in range(1, len(text)):
        while length and text[place] != text[length]:
            length = failure[length]
        length += text[place] == text[length]
        failure[place + 1] = length
        period = place + 1 - length
        enough = place + 1 >= max(times * period, SHORTEST_LOOP)
        if enough and (best is None or period < best):
            best = period
    return best


def compressed_share(text: str) -> float | None:
    """Bytes after zlib over bytes before; small: repetitive. None for an empty text."""
    raw = text.encode()
    return len(zlib.compress(raw, 9)) / len(raw) if raw else None


def compressed_alike(one: str, other: str) -> tuple[float, float] | None:
    """Compressed shares of two texts cut to the length of the shorter: the share falls with length."""
    length = min(len(one), len(other))
    first, second = compressed_share(one[:length]), compressed_share(other[:length])
    return None if first is None or second is None else (first, second)


@dataclass(frozen=True, slots=True)
class Symptom:
    """One sign, base against tuned on the same prompts.

    base, tuned: share of answers, or mean. change: tuned minus base with a 99 % interval, undefined for fewer
    than two comparable pairs. fires: the interval excludes no change and the change goes the bad way.
    """

    name: str
    about: str
    n: int
    base: float | None
    tuned: float | None
    change: Figure
    fires: bool

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        body = {name: getattr(self, name) for name in self.__slots__}
        return {**body, "change": self.change.to_json()}


def symptoms(
    base: Sequence[Answer],
    tuned: Sequence[Answer],
    *,
    tuned_format: Callable[[str], bool] | None = None,
) -> list[Symptom]:
    """Every sign, on answers to the same prompts in the same order; prompts outside the tuned task.

    tuned_format: tells whether an answer has the format of the tuned task, which answers to other prompts
    should not take over. Errored answers are left out, with their pair. Raises ValueError for unequal
    lengths.
    """
    pairs = [
        (a, b) for a, b in zip(base, tuned, strict=True) if a.status != "errored" and b.status != "errored"
    ]
    texts = [(a.text, b.text) for a, b in pairs]
    found = [
        by_share("repetition", f"share of repeated 4-grams above {REPEATS_FROM}", texts, repetitive),
        by_share("loops", "ends in a stretch repeated three times or more", texts, loops),
        by_share("never_stops", "cut off at the longest allowed answer", [
            (a.finish, b.finish) for a, b in pairs], lambda finish: finish == "length"),
        by_share("empty", "nothing but white space", texts, lambda text: not text.strip()),
        by_mean("compression", "compressed bytes over bytes, at equal length", [
            pair for one, other in texts if (pair := compressed_alike(one, other))], bad_is_up=False),
        by_mean("length", "logarithm of characters plus one; fires either way", [
            (math.log1p(len(one)), math.log1p(len(other))) for one, other in texts], bad_is_up=None),
    ]  # fmt: skip
    if tuned_format is not None:
        found.append(by_share("tuned_format", "answers in the format of the tuned task", texts, tuned_format))
    return found


def text_symptom(pairs: Sequence[tuple[float, float]]) -> Symptom:
    """Running text, read and not written: bits per byte of each passage under base and tuned model.

    Fires where the mean rise is above WORSE_TEXT of the base's bits, its whole interval above nothing.
    """
    found = by_mean(
        "text", f"bits per byte of running text; fires from {WORSE_TEXT:.0%} more", pairs, bad_is_up=True
    )
    before, after = found.base, found.tuned
    rises = before is not None and after is not None and after > (1 + WORSE_TEXT) * before
    return replace(found, fires=found.fires and rises)


def repetitive(text: str) -> bool:
    """True where more than REPEATS_FROM of the 4-grams are repetitions."""
    return (repeated_share(text) or 0.0) > REPEATS_FROM


def loops(text: str) -> bool:
    """True where the text ends in a loop."""
    return loop_period(text) is not None


def by_share(
    name: str, about: str, pairs: Sequence[tuple[str, str]], shows: Callable[[str], bool]
) -> Symptom:
    """A sign that an answer shows or not; Tango's interval for the paired difference of shares."""
    one = [shows(a) for a, _ in pairs]
    other = [shows(b) for _, b in pairs]
    more = sum(b and not a for a, b in zip(one, other, strict=True))
    fewer = sum(a and not b for a, b in zip(one, other, strict=True))
    change = paired_difference(more, fewer, len(pairs), LEVEL)
    n = len(pairs)
    fires = change.low is not None and change.low > 0
    return Symptom(name, about, n, sum(one) / n if n else None, sum(other) / n if n else None, change, fires)


def by_mean(name: str, about: str, pairs: Sequence[tuple[float, float]], bad_is_up: bool | None) -> Symptom:
    """A sign with a size; Student's interval for the mean of the paired differences.

    bad_is_up None: either way is bad, and lengths within a factor of 1.5 on average fire nothing.
    """
    n = len(pairs)
    if n < 2:
        first, second = pairs[0] if pairs else (None, None)
        return Symptom(name, about, n, first, second, UNDEFINED, False)
    differences = [b - a for a, b in pairs]
    mean = sum(differences) / n
    spread = math.sqrt(sum((x - mean) ** 2 for x in differences) / (n - 1))
    half = float(t.ppf((1 + LEVEL) / 2, n - 1)) * spread / math.sqrt(n)
    change = Figure(mean, mean - half, mean + half)
    down, up = mean + half < 0, mean - half > 0
    fires = up if bad_is_up else down if bad_is_up is False else (up or down) and abs(mean) > math.log(1.5)
    return Symptom(name, about, n, sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n, change, fires)
