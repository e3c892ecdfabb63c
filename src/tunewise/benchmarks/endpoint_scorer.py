"""Items -> scores, with a model behind an OpenAI-compatible endpoint: what its log-probabilities allow.

Asked is ``/completions`` with ``echo``, which some servers answer with the log-probability of every token of
the prompt. Chat endpoints do not offer that, and many hosts have dropped it; then only instruction-following
can be measured there. Whether a word is the model's first choice takes ``top_logprobs`` as well. The server's
tokenizer is not known here: tokens that end after the context count as the ending, which equals the local
split unless the two melt into one token. An item that the server refuses (too long for it, say) has no score:
it is left out and counted.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx

from tunewise.benchmarks.encode import split
from tunewise.benchmarks.item import Item
from tunewise.benchmarks.scorer import Outcome
from tunewise.benchmarks.scores import Scored
from tunewise.errors import DoorError, SettingError
from tunewise.models.chat_format import ROUTE, completions_url, shortened
from tunewise.models.connection import find_key
from tunewise.models.endpoint import EndpointDoor
from tunewise.task import EndpointSpec

ATTEMPTS = 4
REFUSED = (400, 404, 405, 413, 422, 501)  # said of one prompt, or of log-probabilities as such
# Of each token: begin, end, log-probability, whether it was the first choice (None where that is not said).
Offsets = list[tuple[int, int, float | None, bool | None]]


class NotOffered(SettingError):
    """What a benchmark needs is not among what this endpoint gives."""


class EndpointScorer:
    """Scores items at an endpoint. Raises NotOffered where it does not give what they need."""

    def __init__(self, spec: EndpointSpec, transport: httpx.BaseTransport | None = None) -> None:
        self.spec = spec
        self.url = completions_url(spec.endpoint).replace(ROUTE, "/completions")
        parts = urlsplit(self.url)
        _, key = find_key(spec.api_key_env, parts.hostname or "", parts.scheme)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(headers=headers, timeout=spec.timeout_s, transport=transport)
        self.transport = transport
        self.proved = False
        self.names_first_choices = False  # known once proved
        self.refused = ""  # the last refusal, in the server's words

    @property
    def door(self) -> EndpointDoor:
        """The same endpoint for written answers."""
        return EndpointDoor(self.spec, transport=self.transport)

    def score(self, items: Sequence[Item], told: Callable[[int, int], None] | None = None) -> Outcome:
        """One Scored per item, in order, but for those that the endpoint refuses; they are named.

        Prompts are sent side by side, as the endpoint allows. Raises NotOffered, and DoorError when it cannot
        be reached, does not answer, or refuses every item.
        """
        started = time.perf_counter()
        if not self.proved:
            self.prove()
        if not self.names_first_choices and any(item.context and len(item.endings) == 1 for item in items):
            raise NotOffered(
                f"{self.url}: this endpoint gives log-probabilities, but not which token was the model's "
                "first choice (top_logprobs), by which a last word is right or wrong. Leave lambada out "
                "(--tasks)."
            )
        results: list[Scored] = []
        errored: list[str] = []
        with ThreadPoolExecutor(self.spec.concurrency) as pool:
            for item, scored in zip(items, pool.map(self.score_one, items), strict=True):
                if scored is None:
                    errored.append(item.id)
                else:
                    results.append(scored)
                if told:
                    told(len(results) + len(errored), len(items))
        if errored and not results:
            raise DoorError(
                f"{self.url}: refused every one of {len(items)} items, though it answers short ones"
            )
        return Outcome(results, (), 0, time.perf_counter() - started, tuple(errored))

    def prove(self) -> None:
        """Ask for one short prompt's log-probabilities. Raises NotOffered where they do not come."""
        tokens = self.tokens_of("One, two, three")
        if not any(value is not None for _, _, value, _ in tokens):
            said = f" It answered {self.refused}" if self.refused else ""
            raise NotOffered(
                f"{self.url}: no log-probabilities of a prompt came for the model '{self.spec.name}' (asked "
                f"with echo and logprobs), which scoring endings needs.{said} If the name is right, only "
                "ifeval can be measured there; for the others give local weights, or a server that offers "
                "them (vLLM's /v1/completions does)."
            )
        self.names_first_choices = any(first is not None for *_, first in tokens)
        self.proved = True

    def score_one(self, item: Item) -> Scored | None:
        """Log-probabilities of the endings of one item, one request each; None where one is refused."""
        logprobs, greedy, size, count = [], [], 0, 0
        for ending in item.endings:
            context, rest = split(item.context, ending)
            tokens = self.tokens_of(context + rest)
            after = [token for token in tokens if token[1] > len(context) and token[2] is not None]
            if not after:
                return None  # no token, no sum: nothing is not a log-probability of 0
            logprobs.append(sum(logprob for _, _, logprob, _ in after if logprob is not None))
            greedy.append(all(first for *_, first in after))
            count += len(after)
            if not item.context:
                size = len(rest[after[0][0] :].encode())
        return Scored(item.id, tuple(logprobs), tuple(greedy), item.lengths, item.gold, size, count)

    def tokens_of(self, prompt: str) -> Offsets:
        """Place and log-probability of each token of a prompt; empty where the endpoint does not say.

        Raises DoorError when it cannot be reached or does not answer.
        """
        body = {"model": self.spec.name, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 1,
                "echo": True}  # fmt: skip
        reply = self.posted(body)
        if reply.status_code in REFUSED:
            self.refused = f"HTTP {reply.status_code}: {shortened(reply.text)}"
            return []
        if reply.status_code != 200:
            raise DoorError(f"{self.url}: HTTP {reply.status_code}: {shortened(reply.text)}")
        try:
            found = reply.json()["choices"][0]["logprobs"]
            return offsets(found, prompt)
        except (ValueError, KeyError, IndexError, TypeError):
            return []

    def posted(self, body: dict[str, Any]) -> httpx.Response:
        """One request; busy servers and broken connections are tried again."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                reply = self.client.post(self.url, json=body)
            except httpx.TransportError as error:
                if attempt == ATTEMPTS:
                    raise DoorError(f"{self.url}: cannot be reached: {error}") from error
            else:
                if attempt == ATTEMPTS or reply.status_code not in (429, 500, 502, 503, 504):
                    return reply
            time.sleep(0.25 * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def close(self) -> None:
        """Nothing is held that the next item does not need."""


def offsets(found: dict[str, Any], prompt: str) -> Offsets:
    """Tokens of the prompt alone, in the completions format (tokens, token_logprobs, top_logprobs,
    text_offset).

    A first token that the server put before the prompt (a tokenizer's BOS) is left out. Raises KeyError or
    TypeError for another shape, ValueError where the tokens do not make up the prompt.
    """
    tokens, values = found["tokens"], found["token_logprobs"]
    best = found.get("top_logprobs") or [None] * len(tokens)
    if tokens and values[0] is None and not prompt.startswith(tokens[0]):
        tokens, values, best = tokens[1:], values[1:], best[1:]
    placed: Offsets = []
    begin = 0
    for token, value, top in zip(tokens, values, best, strict=True):
        if begin >= len(prompt):
            break
        end = begin + len(token)
        first = None if not top or value is None else value >= max(top.values())
        placed.append((begin, end, value, first))
        begin = end
    if "".join(tokens[: len(placed)]) != prompt:
        raise ValueError("the tokens are not those of the prompt")
    return placed
