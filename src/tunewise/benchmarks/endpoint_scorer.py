"""Items -> scores, with a model behind an OpenAI-compatible endpoint: what its log-probabilities allow.

Asked is ``/completions`` with ``echo``, which some servers answer with the log-probability of every token of
the prompt. Chat endpoints do not offer that, and many hosts have dropped it; then only instruction-following
can be measured there. The server's tokenizer is not known here: tokens that end after the context count as
the ending, which equals the local split unless the two melt into one token.
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
from tunewise.models.endpoint import EndpointDoor, find_key
from tunewise.task import EndpointSpec

ATTEMPTS = 4
Offsets = list[
    tuple[int, int, float | None, bool]
]  # of each token: begin, end, log-probability, first choice


class EndpointScorer:
    """Scores items at an endpoint. Raises SettingError where it gives no log-probabilities."""

    def __init__(self, spec: EndpointSpec, transport: httpx.BaseTransport | None = None) -> None:
        self.spec = spec
        self.url = completions_url(spec.endpoint).replace(ROUTE, "/completions")
        parts = urlsplit(self.url)
        _, key = find_key(spec.api_key_env, parts.hostname or "", parts.scheme)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self.client = httpx.Client(headers=headers, timeout=spec.timeout_s, transport=transport)
        self.transport = transport
        self.proved = False

    @property
    def door(self) -> EndpointDoor:
        """The same endpoint for written answers."""
        return EndpointDoor(self.spec, transport=self.transport)

    def score(self, items: Sequence[Item], told: Callable[[int, int], None] | None = None) -> Outcome:
        """One Scored per item, in order; prompts are sent side by side, as the endpoint allows."""
        started = time.perf_counter()
        if not self.proved:
            self.prove()
        results: list[Scored] = []
        with ThreadPoolExecutor(self.spec.concurrency) as pool:
            for scored in pool.map(self.score_one, items):
                results.append(scored)
                if told:
                    told(len(results), len(items))
        return Outcome(results, (), 0, time.perf_counter() - started)

    def prove(self) -> None:
        """Ask for one short prompt's log-probabilities. Raises SettingError where they do not come."""
        prompt = "One, two, three"
        if not self.tokens_of(prompt):
            raise SettingError(
                f"{self.url}: this endpoint gives no log-probabilities of a prompt (asked with echo and "
                "logprobs), which scoring endings needs. Only ifeval can be measured there; for the others "
                "give local weights, or a server that offers them (vLLM's /v1/completions does)."
            )
        self.proved = True

    def score_one(self, item: Item) -> Scored:
        """Log-probabilities of the endings of one item, one request each."""
        logprobs, greedy, size, count = [], [], 0, 0
        for ending in item.endings:
            context, rest = split(item.context, ending)
            tokens = self.tokens_of(context + rest)
            after = [token for token in tokens if token[1] > len(context) and token[2] is not None]
            logprobs.append(sum(logprob for _, _, logprob, _ in after if logprob is not None))
            greedy.append(all(first for *_, first in after))
            count += len(after)
            if not item.context and after:
                size = len(rest[after[0][0] :].encode())
        return Scored(item.id, tuple(logprobs), tuple(greedy), item.lengths, item.gold, size, count)

    def tokens_of(self, prompt: str) -> Offsets:
        """Place and log-probability of each token of a prompt; empty where the endpoint does not say.

        Raises DoorError when it cannot be reached or does not answer.
        """
        body = {"model": self.spec.name, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 1,
                "echo": True}  # fmt: skip
        reply = self.posted(body)
        if reply.status_code in (400, 404, 405, 422, 501):
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

    Raises KeyError or TypeError for another shape, ValueError where the tokens do not make up the prompt.
    """
    tokens, values = found["tokens"], found["token_logprobs"]
    best = found.get("top_logprobs") or [None] * len(tokens)
    placed: Offsets = []
    begin = 0
    for token, value, top in zip(tokens, values, best, strict=True):
        if begin >= len(prompt):
            break
        end = begin + len(token)
        first = top is not None and value is not None and value >= max(top.values(), default=value)
        placed.append((begin, end, value, first))
        begin = end
    if "".join(tokens[: len(placed)]) != prompt:
        raise ValueError("the tokens are not those of the prompt")
    return placed
