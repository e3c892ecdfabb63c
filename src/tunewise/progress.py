"""How a long step says where it is. The terminal, a log and the run's store implement it."""

from typing import Any, Protocol

READING = "cpt"  # the rung of ``training`` events while documents are read, before any tuning


class Progress(Protocol):
    """Told of every event of a run, also by threads of calls; must never raise and never block for long.

    Events and their facts (all optional but the first):
      ``plan``       text
      ``rung``       rung, state ("skipped" | "building" | "measuring" | "done"), reason, verdict
      ``building``   rung, text (what is being tried), done, total
      ``training``   rung, step, steps, loss, tokens_per_second, computed_tokens_per_second (all padding
                     included), memory_bytes (peak of tensors), held_out_loss (at the last snapshot),
                     eta_seconds
      ``measuring``  rung, n, cap, estimate, low, high, verdict
      ``spent``      calls, tokens_in, tokens_out, usd, seconds
      ``note``       text (something the user should read)
    """

    def tell(self, event: str, **facts: Any) -> None: ...


class Silent:
    """Hears everything, says nothing."""

    def tell(self, event: str, **facts: Any) -> None:
        return None
