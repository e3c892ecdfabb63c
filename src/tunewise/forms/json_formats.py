"""``format`` of JSON Schema where it is asserted: checks of ``jsonschema``, and those it leaves to others."""

import re
from datetime import date
from functools import cache

from jsonschema import Draft202012Validator, FormatChecker

# Section 7.3 of the validation vocabulary, draft 2020-12; another name is a remark of the schema's author.
STANDARD = frozenset(
    [
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uuid",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    ]
)
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(\.\d+)?([zZ]|[+-]([01]\d|2[0-3]):[0-5]\d)"
_DAY = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
_HEX = r"%[0-9A-Fa-f]{2}"
_URI_SIGNS = rf"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|{_HEX})*"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

RULES = {
    "date-time": rf"{_DAY}[tT ]{_CLOCK}",  # RFC 3339, section 5.6
    "time": _CLOCK,
    "duration": r"P(?=[\dT])(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+S)?)?)",  # RFC 3339, A
    "hostname": rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*",  # RFC 1123, section 2.1
    "uri": rf"[A-Za-z][A-Za-z0-9+.\-]*:{_URI_SIGNS}",  # RFC 3986, section 3: the signs, not every sub-rule
    "uri-reference": _URI_SIGNS,
    "json-pointer": r"(/([^~/]|~[01])*)*",  # RFC 6901
}


@cache
def checker() -> FormatChecker:
    """The checks of the formats, whatever the dialect."""
    made = FormatChecker(formats=())
    made.checkers = dict(Draft202012Validator.FORMAT_CHECKER.checkers)
    for name, rule in RULES.items():
        compiled = re.compile(rule, re.ASCII)

        def check(
            value: object, compiled: re.Pattern[str] = compiled, dated: bool = name == "date-time"
        ) -> bool:
            if not isinstance(value, str):
                return True
            return compiled.fullmatch(value) is not None and not (dated and not _is_day(value[:10]))

        made.checks(name)(check)
    made.checks("regex")(_is_pattern)  # by the engines that patterns run on
    return made


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_pattern(value: object) -> bool:
    from tunewise.forms.patterns import pattern

    if not isinstance(value, str):
        return True
    try:
        pattern(value)
    except ValueError:
        return False
    return True


def not_assertable(name: str) -> str | None:
    """Why a standard format cannot be asserted; None where it can, or where it is no standard format."""
    if name not in STANDARD or name in checker().checkers:
        return None
    known = ", ".join(sorted(checker().checkers))
    return f"format {name!r} cannot be asserted here (known: {known}); state it as a pattern"
