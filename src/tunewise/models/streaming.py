"""A chat completion asked for as a stream of events, put together again, with the time of its first token.

Server-sent events as OpenAI-compatible servers send them: lines ``data: {json}``, the last one
``data: [DONE]``. Only probes ask so: a whole reply says nothing of when its first token was there.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tunewise.models.chat_format import error_in, failed_choice


@dataclass(slots=True)
class Gathered:
    """What the events have said so far. first_s: seconds until the first one with text."""

    began: float
    first_s: float | None = None
    said: dict[str, list[str]] = field(default_factory=lambda: {"content": [], "refusal": []})
    reason: str | None = None
    usage: Any = None
    error: Any = None
    done: bool = False

    def take(self, line: str) -> None:
        """Read one line; comments, empty lines and other fields of an event say nothing."""
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            self.done = True
            return
        try:
            event = json.loads(data)
        except ValueError:
            return
        if not isinstance(event, Mapping):
            return
        if error_in(event):
            self.error = event
        self.usage = event.get("usage") or self.usage
        choices = event.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
            if failed := failed_choice(event):
                self.error = {"error": failed}
            self._take(choices[0])

    def _take(self, choice: Mapping[str, Any]) -> None:
        delta = choice.get("delta")
        for name, parts in self.said.items():
            text = delta.get(name) if isinstance(delta, Mapping) else None
            if isinstance(text, str) and text:
                parts.append(text)
                self.first_s = self.first_s or time.monotonic() - self.began
        self.reason = choice.get("finish_reason") or self.reason

    def body(self) -> dict[str, Any]:
        """The reply that a request without a stream would have had."""
        if self.error is not None:
            return dict(self.error)
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self.said["content"])}
        if self.said["refusal"]:
            message["refusal"] = "".join(self.said["refusal"])
        choice = {"index": 0, "message": message, "finish_reason": self.reason}
        return {"choices": [choice], **({} if self.usage is None else {"usage": self.usage})}


def post_streamed(
    client: httpx.Client, url: str, body: Mapping[str, Any]
) -> tuple[httpx.Response, float | None]:
    """The reply as it would have come in one piece, and the seconds until its first token.

    None where the server answered in one piece after all. Raises httpx's errors; a stream that ends before
    its answer does counts as a connection that broke.
    """
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    began = time.monotonic()
    with client.stream("POST", url, json=asked) as response:
        kind = response.headers.get("content-type", "")
        if response.status_code != 200 or not kind.startswith("text/event-stream"):
            response.read()
            return response, None
        gathered = Gathered(began)
        for line in response.iter_lines():
            gathered.take(line)
            if gathered.done:
                break
    if gathered.reason is None and not gathered.done and gathered.error is None:
        raise httpx.RemoteProtocolError("the stream ended before its answer did")
    return httpx.Response(200, json=gathered.body()), gathered.first_s
