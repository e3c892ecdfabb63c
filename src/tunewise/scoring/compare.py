"""Two files of outputs on the same items: the paired difference, and whether b is better."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunewise.errors import DataError, SettingError
from tunewise.evidence.paired import Paired, compare_binary, compare_graded
from tunewise.inputs import check_seed
from tunewise.scoring.rows import OutputRow, identity, keyed, read_outputs
from tunewise.scoring.score import WholeFileScores, by_conversation, score_rows
from tunewise.scoring.settings import ScoreSettings, metric_for, settings_of
from tunewise.task import Task

MARGIN = 0.02
SHOWN = 10


@dataclass(frozen=True)
class Comparison:
    """b against a on the items that both have.

    matched_by: what paired them. only_in_a, only_in_b: identities that the other file lacks.
    errored: pairs left out because an answer has no value. unit: as in ScoreReport.
    sentence: what follows, in words. untrusted: why the judge may not decide (the answer is then
    ``cannot_tell`` whatever it says); None for a trusted one and for other metrics.
    """

    a: str
    b: str
    metric: str
    matched_by: str
    unit: str
    paired: Paired
    common: int
    only_in_a: tuple[str, ...]
    only_in_b: tuple[str, ...]
    errored: tuple[str, ...]
    sentence: str
    untrusted: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, None where undefined; the figures of ``paired`` stand at the top level."""
        plain = asdict(self)
        figures = plain.pop("paired")
        return {**plain, **figures}


def compare(
    a: str | Path,
    b: str | Path,
    metric: str | None = None,
    *,
    margin: float = MARGIN,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
    choices: Sequence[str] = (),
    schema: str | Path | None = None,
    assert_format: bool = False,
    xsd: str | Path | None = None,
    style_references: Sequence[str | Path] = (),
    style_bases: Sequence[str | Path] = (),
    task: Task | None = None,
) -> Comparison:
    """The paired difference b - a of a metric on common ids.

    0/1 metrics: exact McNemar, Tango's interval. Graded ones, and conversations (each is one unit): BCa
    bootstrap from ``seed``. margin: by how much b may be worse and still pass as not worse, in units of the
    metric. Rows are paired by ``id``, else ``conversation`` and ``turn``, else ``input``; a reference that
    one file lacks is taken from the other. Raises DataError when no item is common, an identity stands
    twice, or two references of one item differ.
    """
    if not 0 <= margin < 1:
        raise SettingError(f"margin: a number from 0 to below 1 was expected, got {margin}")
    check_seed(seed)
    settings = settings_of(
        metric,
        options=options,
        choices=choices,
        schema=schema,
        assert_format=assert_format,
        xsd=xsd,
        style_references=style_references,
        style_bases=style_bases,
        task=task,
    )
    first, second = read_outputs(a), read_outputs(b)
    by = identity(first, second)
    rows_a, rows_b = keyed(first, a, by), keyed(second, b, by)
    common = [key for key in rows_a if key in rows_b]
    if not common:
        raise DataError(
            f"{a} and {b} have no {by} in common: {len(rows_a)} and {len(rows_b)} rows, such as"
            f" {next(iter(rows_a), 'none')!r} and {next(iter(rows_b), 'none')!r}"
        )
    pairs = [_with_references(rows_a[key], rows_b[key], key) for key in common]
    sides = [score_rows([pair[k] for pair in pairs], settings, str(file)) for k, file in enumerate((a, b))]
    kept, errored = _both(common, pairs, sides)
    if not kept:
        raise DataError(f"{a} and {b}: of {len(common)} common items none has a value on both sides")
    paired, unit = _paired(kept, settings, margin, seed)
    untrusted = next((why for side in sides if (why := _untrusted(side.figures)) is not None), None)
    if untrusted is not None:
        untrusted = f"the judge may not decide: {untrusted}"
    elif errored and not _stands_either_way(paired, pairs, sides, settings, margin, seed):
        untrusted = f"{len(errored)} items errored on one side, and it turns on what they would have been"
    if untrusted is not None:
        paired = replace(paired, answer="cannot_tell", more=None)
    return Comparison(
        a=str(a),
        b=str(b),
        metric=settings.metric,
        matched_by=by,
        unit=unit,
        paired=paired,
        common=len(common),
        only_in_a=tuple(key for key in rows_a if key not in rows_b),
        only_in_b=tuple(key for key in rows_b if key not in rows_a),
        errored=errored,
        sentence=_sentence(paired, settings.metric, unit, untrusted),
        untrusted=untrusted,
    )


def _both(
    keys: Sequence[str], pairs: Sequence[tuple[OutputRow, OutputRow]], sides: Sequence[WholeFileScores]
) -> tuple[list[tuple[OutputRow, float, float]], tuple[str, ...]]:
    """Rows with their values in a and b where both have one, and the keys of the others."""
    kept, errored = [], []
    for key, (row, _), x, y in zip(keys, pairs, sides[0].scores, sides[1].scores, strict=True):
        if x.value is None or y.value is None:
            errored.append(key)
        else:
            kept.append((row, x.value, y.value))
    return kept, tuple(errored)


def _stands_either_way(
    paired: Paired,
    pairs: Sequence[tuple[OutputRow, OutputRow]],
    sides: Sequence[WholeFileScores],
    settings: ScoreSettings,
    margin: float,
    seed: int,
) -> bool:
    """Whether the answer is the same with all that errored as well for b as can be, and as ill."""
    for missing_a, missing_b in ((0.0, 1.0), (1.0, 0.0)):
        whole = [
            (row, missing_a if x.value is None else x.value, missing_b if y.value is None else y.value)
            for (row, _), x, y in zip(pairs, sides[0].scores, sides[1].scores, strict=True)
        ]
        if _paired(whole, settings, margin, seed)[0].answer != paired.answer:
            return False
    return True


def _with_references(a: OutputRow, b: OutputRow, key: str) -> tuple[OutputRow, OutputRow]:
    if a.references and b.references and a.references != b.references:
        raise DataError(
            f"{key!r}: the two files have other references (lines {a.line} and {b.line}), so these are not"
            " the same item"
        )
    if a.input and b.input and a.input != b.input:
        raise DataError(
            f"{key!r}: the two files have other inputs (lines {a.line} and {b.line}), so these are not the"
            " same item"
        )
    right, asked = a.references or b.references, a.input or b.input
    return replace(a, references=right, input=asked), replace(b, references=right, input=asked)


def _paired(
    kept: Sequence[tuple[OutputRow, float, float]], settings: ScoreSettings, margin: float, seed: int
) -> tuple[Paired, str]:
    rows = [row for row, _, _ in kept]
    a, b = [x for _, x, _ in kept], [y for _, _, y in kept]
    if all(row.conversation is not None for row in rows):
        means_a = [x for x in by_conversation(rows, a) if x is not None]
        means_b = [y for y in by_conversation(rows, b) if y is not None]
        return compare_graded(means_a, means_b, margin, seed), "conversation"
    if metric_for(settings).kind == "binary":
        return compare_binary(a, b, margin), "item"
    return compare_graded(a, b, margin, seed), "item"


def _untrusted(figures: Mapping[str, Any]) -> str | None:
    """Why a judge may not decide, of its figures; None where it may, and for metrics without a judge."""
    if figures.get("trusted", True):
        return None
    return str(figures.get("trusted_why") or "it has not earned trust")


def _sentence(paired: Paired, metric: str, unit: str, untrusted: str | None = None) -> str:
    points = f"{100 * paired.difference:+.1f} points of {metric}"
    between = f"between {100 * paired.low:+.1f} and {100 * paired.high:+.1f}, {paired.n} {unit}s"
    figures = f"({points}, {between})"
    if untrusted is not None:
        return f"One cannot tell whether b is better than a: {untrusted} {figures}."
    margin = f"{100 * paired.margin:g} points"
    if paired.answer == "better":
        return f"b is better than a {figures}."
    if paired.answer == "not_worse":
        return f"b is not worse than a by more than {margin} {figures}."
    if paired.answer == "worse":
        return f"b is worse than a {figures}."
    more = (
        f"about {paired.more} more {unit}s would probably settle it"
        if paired.more is not None
        else "if these figures are the truth, no further items are likely to show either"
    )
    return f"One cannot tell whether b is better than a or not worse by {margin} {figures}: {more}."
