"""Texts of a voice, from a file or from examples, and what they are compared with."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewise.data import Example, Message, read_examples
from tunewise.errors import DataError
from tunewise.evidence.style import VoiceText
from tunewise.rowfiles import read_rows

PLAIN_TEXT = (".txt", ".md")


@dataclass(frozen=True, slots=True)
class VoiceRow:
    """A text of a voice, and what it answers where that is known (the chat up to it)."""

    text: VoiceText
    turns: tuple[Message, ...] = ()


def read_voice(path: str | Path) -> tuple[VoiceRow, ...]:
    """The texts of a voice: rows ``{text, document}``, rows of any example format (their outputs), or a
    plain text whose paragraphs are the texts.

    ``document`` (optional): texts that belong together, never split between fitting and checking. An output
    whose row names none is of the document of its input. Raises DataError for a file without texts.
    """
    file = Path(path)
    if file.suffix.lower() in PLAIN_TEXT:
        try:
            paragraphs = file.read_text(encoding="utf-8").split("\n\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file}: a text in UTF-8 was expected: {error}") from None
        rows = tuple(VoiceRow(VoiceText(text)) for text in paragraphs if text.strip())
    else:
        found = read_rows(file)
        if found.rows and all(isinstance(row.fields.get("text"), str) for row in found.rows):
            rows = tuple(
                VoiceRow(VoiceText(row.fields["text"], str(row.fields.get("document") or "")))
                for row in found.rows
            )
        else:
            rows = tuple(voice_row(example) for example in read_examples(file).examples)
    if not rows:
        raise DataError(f"{file}: no texts of a voice; rows with 'text' or 'output' were expected")
    return rows


def voice_row(example: Example) -> VoiceRow:
    """The output of an example as a text of a voice."""
    document = str(example.fields.get("document") or "") or document_of(example.turns)
    return VoiceRow(VoiceText(example.answer, document), example.turns)


def document_of(turns: Sequence[Message]) -> str:
    """The document of an answer: one name for all answers to the same chat."""
    said = "\0".join(turn.content for turn in turns if turn.role != "system")
    return hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
