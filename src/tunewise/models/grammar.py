"""Answers held to a grammar while they are written: which tokens may come next (llguidance)."""

import importlib.util
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from tunewise.errors import SettingError
from tunewise.models.door import Grammar

EXTRA = "pip install 'tunewise[constrained]'"


class Limit(Protocol):
    """What one answer may go on with."""

    def allows(self, written: Sequence[int], token: int) -> bool:
        """Whether this token may follow these: far cheaper than ``allowed``, and enough for greedy rows."""
        ...

    def allowed(self, written: Sequence[int], width: int) -> Any:
        """Which tokens may follow these: bool, shape (width,), width the columns of the logits."""
        ...


def installed() -> bool:
    """Whether llguidance is there."""
    return importlib.util.find_spec("llguidance") is not None


def compiled(grammar: Grammar) -> tuple[str, tuple[str, ...]]:
    """A grammar in llguidance's own form, and what it does not enforce, in words.

    Raises SettingError where llguidance is missing, or cannot make a grammar of this form.
    """
    if not installed():
        raise SettingError(f"a grammar needs llguidance; run: {EXTRA}")
    from llguidance import LLMatcher

    if grammar.kind == "regex":
        made = LLMatcher.grammar_from_regex(grammar.source)
        return _checked(made), ()
    if grammar.kind == "choices":
        either = "|".join(_literal(choice) for choice in json.loads(grammar.source))
        return _checked(LLMatcher.grammar_from_regex(either)), ()
    options: Any = {**grammar.spacing(), "lenient": True}
    made = LLMatcher.grammar_from_json_schema(grammar.source, overrides=options)
    wrong, said = LLMatcher.validate_grammar_with_warnings(made)
    if wrong:
        raise SettingError(f"no grammar can be made of the schema: {said[0]}")
    return made, tuple(said)


def _literal(text: str) -> str:
    """A text as a pattern of the Rust engine that matches exactly it."""
    return "".join(
        sign if sign.isalnum() or sign in " _" or ord(sign) > 127 else f"\\x{ord(sign):02x}" for sign in text
    )


def _checked(made: str) -> str:
    from llguidance import LLMatcher

    if wrong := LLMatcher.validate_grammar(made):
        raise SettingError(f"no grammar can be made of it: {' '.join(wrong.split())[:200]}")
    return made


class GrammarTokens:
    """Grammars over one tokenizer. stops: the tokens that end an answer."""

    def __init__(self, tokenizer: Any, stops: Sequence[int]) -> None:
        if not installed():
            raise SettingError(f"a grammar needs llguidance; run: {EXTRA}")
        from llguidance.hf import from_tokenizer

        self.stops = sorted(stops)
        try:
            self._tokens = from_tokenizer(tokenizer, eos_token=self.stops)
        except ValueError as wrong:
            raise SettingError(f"grammars do not work with this model's tokenizer: {wrong}") from None
        self._starts: dict[Grammar, Any] = {}

    def limit(self, grammar: Grammar) -> Limit:
        """A fresh start of one answer in this grammar. Raises SettingError (see ``compiled``)."""
        from llguidance import LLMatcher

        if grammar not in self._starts:
            self._starts[grammar] = LLMatcher(self._tokens, compiled(grammar)[0], log_level=0)
        return _Matcher(self._starts[grammar].deep_copy(), self.stops)


class _Matcher:
    """The state of one answer."""

    def __init__(self, matcher: Any, stops: Sequence[int]) -> None:
        self._matcher = matcher
        self._taken = 0
        self._stops = list(stops)

    def allows(self, written: Sequence[int], token: int) -> bool:
        """See Limit."""
        self._read(written)
        if self._ended:
            return token in self._stops
        return bool(self._matcher.validate_tokens([token]))

    def allowed(self, written: Sequence[int], width: int) -> Any:
        """See Limit. Once the grammar is at its end, or in error, only a stop token may follow."""
        from llguidance.numpy import fill_next_token_bitmask

        self._read(written)
        if not self._ended:
            bits = np.zeros((1, (width + 31) // 32), dtype=np.int32)
            fill_next_token_bitmask(self._matcher, bits)
            mask = np.unpackbits(bits.view(np.uint8)[0], bitorder="little", count=width).astype(bool)
            if mask.any():
                return mask
        only_stops = np.zeros(width, dtype=bool)
        only_stops[self._stops] = True
        return only_stops

    def _read(self, written: Sequence[int]) -> None:
        for token in written[self._taken :]:
            if not self._matcher.is_stopped():
                self._matcher.consume_token(token)
        self._taken = len(written)

    @property
    def _ended(self) -> bool:
        return bool(self._matcher.is_stopped())
