"""``numeric``: the answer is the right number, within a tolerance."""

import math
import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any, NamedTuple

from tunewise.data import reference_text
from tunewise.evidence.metrics.metric import MetricContext
from tunewise.evidence.metrics.normalise import shown
from tunewise.evidence.records import Score
from tunewise.task_metric import NumericOptions

# A sign, digits with or without thousands commas, a fraction, an exponent; or a fraction alone.
NUMBER = re.compile(
    r"(?<![\w.])[-+−]?(?:\d{1,3}(?:,\d{3}){1,20}(?!\d)|\d{1,400}(?!\d))?(?:\.\d{1,400})?(?:[eE][-+]?\d{1,3})?(?!\d)"
)
SLACK = Decimal("1e-12")  # relative: what arithmetic in binary fractions is off by
DIGITS = 800  # more than any two numbers of 400 digits need to be told apart
LONGEST = 10_000  # characters at either end of an answer among which its first or last number is looked for


class Right(NamedTuple):
    """A right number; computed: a binary fraction of a table (0.30000000000000004), which means 0.3."""

    number: Decimal
    computed: bool


def numeric(answer: str, references: Sequence[Any], context: MetricContext) -> Score:
    """1 where |answer - reference| <= max(tolerance, relative * |reference|) for some reference, else 0.

    Read as a number: digits with an optional sign, thousands commas, a decimal point, an exponent;
    around the whole of it white space, a currency or per cent sign, quotes and emphasis (option ``read``
    takes the first or last number of a longer text instead). Anything else is ``unparseable``. detail
    ``error``: |answer - nearest reference|; ``repaired_value``: the value with the last number in the text.
    A reference that is no number can never be right, and the detail says so.
    """
    options = context.options if isinstance(context.options, NumericOptions) else NumericOptions()
    right = [
        Right(n, isinstance(reference, float))
        for reference in references
        if (n := number_in(reference_text(reference), "whole")) is not None
    ]
    said = number_in(answer, options.read)
    if said is None:
        last = number_in(answer, "last")
        repaired = 0.0 if last is None else _value(last, right, options)
        detail = {"repaired_value": repaired, "why": f"a number was expected, got {shown(answer)}"}
        return Score("unparseable", 0.0, detail)
    if not right:
        return Score("scored", 0.0, {"repaired_value": 0.0, "why": "no reference is a number"})
    value = _value(said, right, options)
    nearest = min((r.number for r in right), key=lambda r: abs(said - r))
    detail = {"repaired_value": value, "error": min(abs(float(said) - float(nearest)), 1e300)}
    if not value:
        detail["why"] = f"{float(nearest):g} was expected, got {float(said):g}"
    return Score("scored", value, detail)


def number_in(text: str, read: str) -> Decimal | None:
    """The number that a text is (``whole``), or its ``first`` or ``last``; None where there is none.

    As a decimal, so that 0.3 is within 0.1 of 0.2 and numbers of many digits differ in their last.
    """
    if read == "whole":
        found = NUMBER.fullmatch(_bare(text)) if len(text) <= LONGEST else None
        return None if found is None else _finite(found.group())
    part = text[:LONGEST] if read == "first" else text[-LONGEST:]
    hits = [hit.group() for hit in NUMBER.finditer(part) if any(ch.isdigit() for ch in hit.group())]
    if not hits:
        return None
    return _finite(hits[0] if read == "first" else hits[-1])


def _bare(text: str) -> str:
    """The text without what may stand around a number, on both sides of a leading sign."""
    marks = " \t\r\n\u00a0$€£¥%°\"'`*_=≈~"
    bare = text.strip(marks).removesuffix(".").strip(marks)
    sign = bare[:1] if bare[:1] in "-+−" else ""
    return sign + bare[len(sign) :].strip(marks)


def _finite(digits: str) -> Decimal | None:
    try:
        value = Decimal(digits.replace(",", "").replace("−", "-"))
    except InvalidOperation:
        return None
    return value if math.isfinite(float(value)) else None


def _value(said: Decimal, right: Sequence[Right], options: NumericOptions) -> float:
    tolerance, relative = Decimal(repr(options.tolerance)), Decimal(repr(options.relative))
    with localcontext(prec=DIGITS):
        return float(
            any(
                abs(said - r.number)
                <= max(tolerance, relative * abs(r.number)) + (SLACK * abs(r.number) if r.computed else 0)
                for r in right
            )
        )
