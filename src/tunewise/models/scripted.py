"""A door to a Python callable: for tests, for examples, and for systems that have no endpoint."""

import hashlib
import importlib
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from tunewise.data import Message
from tunewise.errors import DoorError, SettingError, TunewiseError
from tunewise.models.door import Answer, Price, Request

Script = Callable[[Sequence[Message]], str | Answer]
WORD = re.compile(r"\S+")


def load_script(attr: str) -> Script:
    """The callable at ``module:attr`` (``attr`` may be dotted).

    Raises SettingError when the module cannot be found or has no such callable.
    """
    module_name, _, path = attr.partition(":")
    if not module_name or not path:
        raise SettingError(f"scripted model: 'module:attr' was expected, got {attr!r}")
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise SettingError(
            f"scripted model {attr!r}: no module {error.name!r} can be imported; is its folder on PYTHONPATH?"
        ) from None
    for name in path.split("."):
        if not hasattr(found, name):
            raise SettingError(f"scripted model {attr!r}: there is no {name!r} in {found!r}")
        found = getattr(found, name)
    if not callable(found):
        raise SettingError(f"scripted model {attr!r}: a callable was expected, got {type(found).__name__}")
    return found


def count_words(messages: Sequence[Message]) -> int:
    """Tokens of a scripted model: its words, split at whitespace."""
    return sum(len(WORD.findall(message.content)) for message in messages)


class ScriptedDoor:
    """A model that is a function: ``script(messages) -> str | Answer``, same messages, same answer.

    script: the callable, or where it stands (``module:attr``); the fingerprint follows from that place.
    A string becomes an Answer whose tokens are words, cut after ``max_new_tokens`` of them; an Answer is
    passed on as it is, with the price added where it has tokens and no price. seconds: what each answer
    reports as its time; nothing sleeps. What it raises is a DoorError with its place, but for errors of
    tunewise, which go through.

    Raises SettingError when the callable cannot be found; ``answer`` raises DoorError when the callable
    gives something else than a string or an Answer.
    """

    lost_replies = 0

    def __init__(
        self,
        script: str | Script,
        *,
        price: Price | None = None,
        host: str | None = None,
        context_window: int | None = None,
        concurrency: int = 1,
        batch_size: int = 1,
        seconds: float = 0.0,
    ) -> None:
        self._script = load_script(script) if isinstance(script, str) else script
        place = script if isinstance(script, str) else _place(script)
        self._seconds = seconds
        self.name = place
        self.fingerprint = hashlib.sha256(f"scripted {place}".encode()).hexdigest()
        self.host = host
        self.price = price
        self.context_window = context_window
        self.batch_size = batch_size
        self.concurrency = concurrency

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One Answer per request, in order."""
        return [self._answer_one(request) for request in requests]

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Words of all messages."""
        return count_words(messages)

    def close(self) -> None:
        """Nothing is held open."""
        return None

    def _answer_one(self, request: Request) -> Answer:
        try:
            said = self._script(request.messages)
        except TunewiseError:
            raise
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} ({at.filename}:{at.lineno})"
            raise DoorError(f"scripted model {self.name}: {said}") from error
        if isinstance(said, str):
            answer = worded_answer(said, request.messages, request.decoding.max_new_tokens)
            answer = replace(answer, seconds=self._seconds)
        elif isinstance(said, Answer):
            answer = said
        else:
            raise DoorError(
                f"scripted model {self.name}: a string or an Answer was expected, got {type(said).__name__}"
            )
        if self.price is None or answer.usd is not None:
            return answer
        if answer.tokens_in is None or answer.tokens_out is None:
            return answer
        return replace(answer, usd=self.price.of(answer.tokens_in, answer.tokens_out, answer.cached_in or 0))


def worded_answer(text: str, messages: Sequence[Message], max_new_tokens: int) -> Answer:
    """A script's text as an Answer: words are tokens, and at most ``max_new_tokens`` of them are said."""
    words = list(WORD.finditer(text))
    if len(words) > max_new_tokens:
        end = words[max_new_tokens - 1].end() if max_new_tokens > 0 else 0
        return Answer(
            text[:end], finish="length", tokens_in=count_words(messages), tokens_out=max(max_new_tokens, 0)
        )
    return Answer(text, tokens_in=count_words(messages), tokens_out=len(words))


def _place(script: Script) -> str:
    owner = script if hasattr(script, "__qualname__") else type(script)
    return f"{owner.__module__}:{owner.__qualname__}"
