"""Does a voice drift? The measure per turn over long conversations, and its slope."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunewise.evidence.style.masking import words
from tunewise.evidence.style.voice import Interval, Voice


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said in one turn of a conversation; turns are numbered from 1."""

    conversation: str
    turn: int
    text: str


def slope(conversations: Sequence[str], turns: Sequence[float], values: Sequence[float]) -> Interval:
    """Change of a value per turn within conversations, with a 95 % interval.

    The within (fixed-effects) slope sum (t - mean t)(v - mean v) / sum (t - mean t)^2, means of the own
    conversation; standard error robust to any dependence within a conversation (Liang & Zeger, Biometrika
    73, 1986; small-sample factor G / (G - 1)), t distribution with G - 1 degrees of freedom (Cameron &
    Miller, J. Human Resources 50(2), 2015, sections II.B and VI). G: conversations with at least two turns;
    undefined without one, no interval with one.
    """
    from scipy.stats import t as student

    groups: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for conversation, turn, value in zip(conversations, turns, values, strict=True):
        groups[conversation].append((turn, value))
    centred = []
    for rows in groups.values():
        pairs = np.array(rows)
        moved = pairs - pairs.mean(axis=0)
        if np.any(moved[:, 0] != 0):
            centred.append(moved)
    if not centred:
        return Interval(None, None, None, 0, "no conversation has two turns")
    spread = sum(float(moved[:, 0] @ moved[:, 0]) for moved in centred)
    estimate = sum(float(moved[:, 0] @ moved[:, 1]) for moved in centred) / spread
    count = len(centred)
    if count < 2:
        return Interval(estimate, None, None, count, "one conversation: the spread between them is not known")
    parts = [float(m[:, 0] @ (m[:, 1] - estimate * m[:, 0])) for m in centred]
    error = math.sqrt(count / (count - 1) * sum(part * part for part in parts)) / spread
    half = float(student.ppf(0.975, count - 1)) * error
    return Interval(estimate, estimate - half, estimate + half, count)


def drift(voice: Voice, turns: Sequence[Turn], seed: int = 0) -> dict[str, Any]:
    """The position of every turn, and its slope per turn over all conversations, JSON-able.

    position: as ``Voice.position``, but without the least number of words for a single turn, since its
    interval says how little is known; ``per_turn`` has one row per turn number, in order, whose texts are
    resampled by conversation. ``slope`` is in positions per turn; ``drift`` says in words what it shows.
    """
    turns = [turn for turn in turns if words(turn.text)]  # silence has no voice
    rng = np.random.default_rng(seed)
    anchors = voice.anchors(rng)
    if anchors is None:
        why = "the reference cannot be told from the base model's texts"
        return {"per_turn": [], "slope": Interval(None, None, None, 0, why).to_json(), "drift": None}
    base, reference = anchors[0]
    scores = voice.probability([turn.text for turn in turns])
    positions = (scores - base) / (reference - base)
    names = [turn.conversation for turn in turns]
    found = slope(names, [float(turn.turn) for turn in turns], positions.tolist())
    per_turn = []
    for number in sorted({turn.turn for turn in turns}):
        places = [place for place, turn in enumerate(turns) if turn.turn == number]
        at_turn = voice.position_of(scores[places], [names[place] for place in places], seed)
        per_turn.append({"turn": number, **at_turn.to_json()})
    return {"per_turn": per_turn, "slope": found.to_json(), "drift": _in_words(found)}


def _in_words(found: Interval) -> str | None:
    if found.low is None or found.high is None:
        return None
    if found.high < 0:
        return "the voice fades"
    return "the voice grows" if found.low > 0 else "no drift is shown"
