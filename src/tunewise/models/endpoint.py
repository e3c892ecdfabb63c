"""The door to any OpenAI-compatible server: vLLM, llama.cpp, Ollama, `transformers serve`, hosted ones."""

import hashlib
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn
from urllib.parse import urlsplit

import httpx
import tenacity

from tunewise.data import Message
from tunewise.errors import DoorError
from tunewise.models.chat_format import (
    Dialect,
    chat_body,
    completions_url,
    dialect_asked_for,
    error_in,
    failed_choice,
    is_filtered,
    read_answer,
    retry_after_s,
    shortened,
)
from tunewise.models.connection import find_key, open_client
from tunewise.models.door import Answer, GrammarKind, Price, Request
from tunewise.models.limiter import AdaptiveLimit, GivenUp
from tunewise.models.streaming import post_streamed
from tunewise.task import EndpointSpec

# So many errored answers one after the other are a fault of the door, not of single requests.
ERRORS_IN_A_ROW = 8
ERRORS_AT_FIRST = 2  # while it has never answered, and turned nothing down either


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to try again. Waits double from ``first_s`` to ``longest_s`` with jitter up to ``first_s``.

    attempts: of one request, the first one included. attempts_at_first, timeouts_at_first: while the endpoint
        has never answered, since a wrong address or a server that is down is likelier than a restart; then
        the door is at fault. timeouts: attempts that may time out, and at a priced host those that break off
        after they were sent, since it may charge for each.
    total_s: waiting of one request in all; "too many requests" is bounded by this alone.
    tell_s: at most once in so many seconds the user is told what is waited for.
    """

    attempts: int = 8
    attempts_at_first: int = 4
    timeouts: int = 3
    timeouts_at_first: int = 2
    first_s: float = 0.5
    longest_s: float = 30.0
    total_s: float = 300.0
    tell_s: float = 10.0


class _Trouble(Exception):
    """One attempt failed in a way that another attempt may mend.

    fatal: when no attempt mends it, the door is at fault and not this request.
    """

    def __init__(
        self,
        message: str,
        *,
        attempts: int | None,
        fatal: bool,
        wait_s: float | None = None,
        unanswered: bool = False,
    ) -> None:
        super().__init__(message)
        self.attempts, self.fatal, self.wait_s, self.unanswered = attempts, fatal, wait_s, unanswered


class _Filtered(Exception):
    """A content filter turned this one request down."""


class _Rejected(Exception):
    """The server turned down this one request (400, 413, 422, ...)."""


class EndpointDoor:
    """A model behind a chat-completions endpoint. Thread-safe; one pool of connections, kept open.

    The address may come with or without ``/v1`` (`chat_format.completions_url`). The key comes from the
    environment alone: the variable that ``spec.api_key_env`` names, else TUNEWISE_API_KEY, else, at
    openai.com only, OPENAI_API_KEY. It is sent as a bearer token and appears in no message.

    Raises SettingError when the address is no endpoint or the named variable is not set.
    patience, transport, sleep: how failures are waited out; the network, for tests; the clock, for tests.
    tell: called with a line (``text``) when a failed attempt is about to be made again; may be set later.
    """

    def __init__(
        self,
        spec: EndpointSpec,
        *,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] | None = None,
        tell: Callable[..., object] | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._url = completions_url(spec.endpoint)
        parts = urlsplit(self._url)
        self._where = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._key_source, key = find_key(spec.api_key_env, parts.hostname or "", parts.scheme)
        self._model = spec.name
        self._dialect = Dialect()
        self._answered = False
        self._streams = True
        self._errors_in_a_row = 0
        self._count = threading.Lock()
        self._given_up = threading.Event()
        self._told_at = -math.inf
        self.tell = tell
        self._limit = AdaptiveLimit(spec.concurrency)
        self._client = open_client(spec, key, parts.hostname or "", transport)
        first_s, longest_s = self._patience.first_s, self._patience.longest_s
        self._backoff = tenacity.wait_exponential(first_s, longest_s) + tenacity.wait_random(0, first_s)
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_Trouble),
            wait=self._wait_s,
            stop=self._is_enough,
            sleep=sleep or self._pause,
            before_sleep=self._tell_of,
            reraise=True,
        )
        self.name = spec.name
        self.host: str | None = parts.netloc
        self.fingerprint = _fingerprint(self._url, spec.name)
        self.price = _price(spec)
        self.grammars: frozenset[GrammarKind] = frozenset({"json_schema"})
        self.context_window: int | None = None
        self.batch_size = 1
        self.concurrency = spec.concurrency
        self.lost_replies = self._patience.timeouts - 1

    def __repr__(self) -> str:
        return f"EndpointDoor({self._where!r}, {self._model!r})"

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One Answer per request, in order. Raises DoorError when the endpoint as a whole does not serve."""
        return [self._answer_one(request) for request in requests]

    def answer_timed(self, request: Request) -> Answer:
        """The same, asked for as a stream, so that the time of the first token is known.

        Once the server has refused to stream, or counted no tokens in a stream, it is asked as ever.
        """
        return self._answer_one(request, stream=True)

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """None: the server's tokenizer is not known here."""
        return None

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def give_up(self) -> None:
        """Make no attempt again: requests that wait for one end at once, those under way when they return."""
        self._given_up.set()
        self._limit.give_up()

    def go_on(self) -> None:
        """Take requests again, after ``give_up``."""
        self._given_up.clear()
        self._limit.go_on()

    def _answer_one(self, request: Request, stream: bool = False) -> Answer:
        lost: list[_Trouble] = []
        try:
            answer = self._retrying(self._attempt, request, lost, stream)
        except GivenUp:
            said = "given up while it waited for its turn or for another attempt"
            usd = None if self.price is None else 0.0
            return Answer("", status="errored", finish="other", error=said, unanswered=len(lost), usd=usd)
        except _Rejected as error:
            self._answered = True  # what turns a request down is there
            return self._errored(str(error), len(lost), ERRORS_IN_A_ROW, charged=False)
        except _Filtered as error:
            self._answered = True
            usd = None if self.price is None else 0.0
            return Answer(
                "", status="refused", finish="other", error=str(error), unanswered=len(lost), usd=usd
            )
        except DoorError as error:
            error.unanswered = len(lost)
            raise
        except _Trouble as trouble:
            if trouble.fatal:
                said = (
                    f"{self._where}: {trouble}. What was answered is kept: mend it and run the same command"
                )
                raise DoorError(f"{said} again.", unanswered=len(lost)) from None
            most = ERRORS_IN_A_ROW if self._answered else ERRORS_AT_FIRST
            return self._errored(str(trouble), len(lost), most)
        with self._count:
            self._answered = True
            self._errors_in_a_row = 0
        return replace(answer, unanswered=len(lost)) if lost else answer

    def _errored(self, message: str, unanswered: int, most: int, charged: bool = True) -> Answer:
        """An errored answer, or the DoorError of the last of ``most`` in a row.

        unanswered: attempts that a host may charge for. charged: the last of them counts as the answer's own
        cost, which is not known; a request that was turned down costs nothing.
        """
        with self._count:
            self._errors_in_a_row += 1
            in_a_row = self._errors_in_a_row
        if in_a_row >= most:
            raise DoorError(
                f"{self._where}: the last {in_a_row} requests failed one after the other; "
                f"the last one with: {message}",
                unanswered=unanswered,
            )
        free = self.price is not None and not (charged and unanswered)
        before = max(0, unanswered - 1) if charged else unanswered
        usd = 0.0 if free else None
        return Answer("", status="errored", finish="other", error=message, unanswered=before, usd=usd)

    def _attempt(self, request: Request, lost: list[_Trouble], stream: bool) -> Answer:
        """One attempt; when it was sent and not answered, ``lost`` grows by what became of it."""
        try:
            return self._sent(request, stream and self._streams)
        except _Trouble as trouble:
            if trouble.unanswered:
                lost.append(trouble)
            raise

    def _sent(self, request: Request, stream: bool) -> Answer:
        """Send the request once; again where the host wants parameters otherwise, or no stream."""
        dialect = self._dialect
        response, seconds, first_s = self._post(request, dialect, stream)
        while response.status_code == 400 and (asked := dialect_asked_for(response.text, dialect)):
            dialect = asked
            response, seconds, first_s = self._post(request, dialect, stream)
        if dialect != self._dialect and response.status_code == 200:
            self._learn(dialect)
        if stream and response.status_code in (400, 422) and "stream" in response.text:
            self._streams = False
            response, seconds, first_s = self._post(request, dialect, False)
        body = _json(response)
        if response.status_code != 200 or failed_choice(body) or (error_in(body) and not _has_choices(body)):
            self._raise_failure(response, body)
        if body is None:
            kind = response.headers.get("content-type", "no content type")
            raise DoorError(
                f"{self._where}: JSON was expected, got {kind}: {shortened(response.text, 80)!r}. "
                "Is this the address of an OpenAI-compatible server?"
            )
        answer = read_answer(body, price=self.price, seconds=seconds, where=self._where)
        if first_s is not None and answer.tokens_out is None:
            self._streams = False  # without tokens there is no cost, which matters more
        return replace(answer, first_token_s=first_s)

    def _learn(self, dialect: Dialect) -> None:
        """Ask in this way from now on; that answers are drawn is told, once."""
        tells = self.tell is not None and self._dialect.takes_temperature and not dialect.takes_temperature
        self._dialect = dialect
        if tells and self.tell is not None:
            text = f"{self._where}: the host takes no temperature, so answers are drawn at its own"
            self.tell(text=f"{text}: asked again, it may answer otherwise")

    def _post(
        self, request: Request, dialect: Dialect, stream: bool
    ) -> tuple[httpx.Response, float, float | None]:
        """The reply, its seconds, and those until its first token where it came as a stream."""
        body, first_s = chat_body(self._model, request, dialect), None
        try:
            with self._limit:
                started = time.monotonic()
                if stream:
                    response, first_s = post_streamed(self._client, self._url, body)
                else:
                    response = self._client.post(self._url, json=body)
                seconds = time.monotonic() - started
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
            said = f"cannot be reached ({_words(error)})"
            raise _Trouble(said, attempts=self._attempts, fatal=True) from error
        except httpx.TimeoutException as error:
            message = f"no answer within {self._client.timeout.read:g} s (model.timeout_s)"
            patience = self._patience
            attempts = patience.timeouts if self._answered else patience.timeouts_at_first
            raise _Trouble(message, attempts=attempts, fatal=self._dead, unanswered=True) from error
        except httpx.TransportError as error:
            message = f"the connection broke ({_words(error)})"
            attempts = self._attempts if self.price is None else self._patience.timeouts
            raise _Trouble(message, attempts=attempts, fatal=self._dead, unanswered=True) from error
        except httpx.DecodingError as error:
            raise DoorError(f"{self._where}: the reply could not be decoded ({_words(error)})") from error
        if response.status_code == 429:
            asked = _asked_wait(response)
            bounded = None if asked is None else min(asked, self._patience.total_s)
            self._limit.throttled(started, bounded)
        else:
            self._limit.succeeded()
        return response, seconds, first_s

    def _raise_failure(self, response: httpx.Response, body: object) -> NoReturn:
        """Sort a reply that is no answer: the door's fault, worth another attempt, or this request's."""
        status, code, said = error_in(body) or (None, None, response.text)
        if response.status_code != 200:
            status = response.status_code
        said = self._without_key(shortened(said))
        message = f"HTTP {status}: {said}" if status else f"the server reported an error: {said}"
        if is_filtered(body):
            raise _Filtered(message)
        if status == 401:
            raise DoorError(f"{self._where}: the key was refused (HTTP 401). {self._key_source}")
        if status == 403:
            raise DoorError(f"{self._where}: the key was refused (HTTP 403: {said}). {self._key_source}")
        if status == 402 or code == "insufficient_quota":
            raise DoorError(f"{self._where}: the account has no credit left ({message})")
        if status == 404:
            raise DoorError(
                f"{self._where}: not found ({message}). Check the address and the model name {self._model!r}"
            )
        if status is not None and 300 <= status < 400:
            target = response.headers.get("location", "").partition("?")[0]
            raise DoorError(f"{self._where}: moved to {target!r} (HTTP {status}); give that address instead")
        if status == 429:
            message += (
                f" (too many requests: lower model.concurrency, now {self.concurrency}, or come back later)"
            )
            raise _Trouble(message, attempts=None, fatal=True, wait_s=_asked_wait(response))
        if status in (408, 409) or status is None or status >= 500:
            down = status in (502, 503)
            wait_s = _asked_wait(response)
            loading = status in (502, 503, 504)  # no wrong address, and it may take a minute
            attempts = self._patience.attempts if loading else self._attempts
            raise _Trouble(message, attempts=attempts, fatal=down, wait_s=wait_s)
        raise _Rejected(message)

    def _without_key(self, text: str) -> str:
        """``text`` without the key, whole or as the masked form that some hosts repeat."""
        key = self._client.headers.get("authorization", "").removeprefix("Bearer ")
        if key:
            text = text.replace(key, "[key]")
        return re.sub(r"\bsk-[\w*.-]+", "[key]", text)

    def _pause(self, seconds: float) -> None:
        if self._given_up.wait(seconds):
            raise GivenUp

    @property
    def _attempts(self) -> int:
        return self._patience.attempts if self._answered else self._patience.attempts_at_first

    @property
    def _dead(self) -> bool:
        """It never answered and charges nothing for what it may have been sent: one request tells enough."""
        return not self._answered and self.price is None

    def _tell_of(self, state: tenacity.RetryCallState) -> None:
        """Say what failed and when it is tried again, from whichever request comes first."""
        trouble, now = _trouble(state), time.monotonic()
        with self._count:
            if self.tell is None or trouble is None or now - self._told_at < self._patience.tell_s:
                return
            self._told_at = now
        most = "" if trouble.attempts is None else f" of {trouble.attempts}"
        again = f"attempt {state.attempt_number + 1}{most} in {state.upcoming_sleep:.0f} s"
        self.tell(text=f"{self._where}: {trouble}; {again}")

    def _wait_s(self, state: tenacity.RetryCallState) -> float:
        """Exponential with jitter, and never sooner than the host asks for."""
        trouble = _trouble(state)
        asked = trouble.wait_s if trouble is not None else None
        return max(self._backoff(state), asked or 0.0)

    def _is_enough(self, state: tenacity.RetryCallState) -> bool:
        trouble = _trouble(state)
        attempts = trouble.attempts if trouble else 1
        if self._given_up.is_set():
            return True
        if attempts is not None and state.attempt_number >= attempts:
            return True
        return state.idle_for + state.upcoming_sleep > self._patience.total_s


def _price(spec: EndpointSpec) -> Price | None:
    rates = spec.usd_per_million
    return None if rates is None else Price(rates.input, rates.output, rates.cached_input)


def _fingerprint(url: str, model: str) -> str:
    text = json.dumps(["endpoint", url, model], ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _trouble(state: tenacity.RetryCallState) -> _Trouble | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, _Trouble) else None


def _asked_wait(response: httpx.Response) -> float | None:
    return retry_after_s(response.headers.get("retry-after"))


def _json(response: httpx.Response) -> object | None:
    try:
        body: object = response.json()
    except ValueError:
        return None
    return body


def _has_choices(body: object) -> bool:
    return isinstance(body, Mapping) and bool(body.get("choices"))


def _words(error: Exception) -> str:
    return shortened(str(error)) or type(error).__name__
