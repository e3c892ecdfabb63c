"""The JSON within an answer that is not JSON: cut out of prose and code fences, or mended."""

import re
from collections.abc import Set

from tunewise.evidence.metrics.json_text import Found, NotStrictJson, cut_json, parse_strict, too_deep
from tunewise.forms.bounded import TookTooLong, bounded

MAX_FENCES = 5
MAX_REPAIRED = 20_000  # characters; a longer answer is not mended
FENCE = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[^\n`]*\n(.*?)(?:^[ ]{0,3}\1|\Z)", re.DOTALL | re.MULTILINE)
OPENINGS = {"object": "{", "array": "["}


def extracted(answer: str, kinds: Set[str]) -> Found | None:
    """The first JSON value within a code fence, else the first object or array within the text.

    kinds: JSON types that are looked for outside fences, as ``JsonSchema.top_types`` gives them.
    """
    for content in _fenced(answer):
        try:
            return Found(parse_strict(content))
        except NotStrictJson:
            continue
    return cut_json(answer, "".join(OPENINGS[kind] for kind in sorted(kinds) if kind in OPENINGS))


def repaired(answer: str, kinds: Set[str]) -> Found | None:
    """The value that json-repair makes of the fenced content, else of the text; None where there is none.

    Nothing is made of a text without an opening bracket, of one longer than MAX_REPAIRED, or of one nested
    too deeply: the first would be a guess, the others take too long.
    """
    openings = "".join(OPENINGS[kind] for kind in kinds if kind in OPENINGS)
    text = next(iter(_fenced(answer)), answer)
    starts = [place for sign in openings if (place := text.find(sign)) >= 0]
    if not starts or len(text) > MAX_REPAIRED or too_deep(text):
        return None
    try:
        return Found(parse_strict(bounded("repair", text[min(starts) :])))
    except (NotStrictJson, TookTooLong):
        return None


def _fenced(answer: str) -> list[str]:
    """Contents of the first fences; one that is never closed reaches to the end."""
    found: list[str] = []
    if "```" not in answer and "~~~" not in answer:
        return found
    for match in FENCE.finditer(answer):
        found.append(match.group(2))
        if len(found) == MAX_FENCES:
            break
    return found
