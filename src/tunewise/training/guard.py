"""The forgetting guard of one training run: the base read once, the model in training at every checkpoint.

    begin    before the first step the model is the base: it is read on set A, in the layout of all readings
    look     at a checkpoint the same items are read, look by look, until the paired test decides
    stop     an alarm ends the run; what was measured lies in guard.json and is never measured twice

The test is ``benchmarks.guard_test``; it is fixed before anything is read at a checkpoint. How many items it
has follows from time alone: ``time_share`` of the training time, as far as that can be foreseen.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunewise.benchmarks.encode import encode
from tunewise.benchmarks.guard_test import FEWEST, GuardReading, GuardTest
from tunewise.benchmarks.kept import KeptScores
from tunewise.models.precision import has_amx
from tunewise.progress import Progress
from tunewise.training import checkpoints
from tunewise.training.guard_items import FOR_SMALL_MODELS, Asked, GuardItems, some_of
from tunewise.training.guard_reading import LiveReader, Read, beside, early_warning, standing

CHECKPOINTS = 4
PILOT = 48  # items of each benchmark that are read first: is the base above chance, how fast is it
PILOT_AGAIN = 96  # more of one on which so few leave it open: 0.66 of 48 does not exclude a half
CHECK_ITEMS = 200  # of set B at least, however few a checkpoint could afford: they show a drop of 20 %
COMFORTABLE = 120  # items at a checkpoint; with fewer there are fewer checkpoints instead
# A training step reads its tokens once forwards and about twice as long backwards (Kaplan et al., "Scaling
# Laws for Neural Language Models", 2020, section 2.1). The first checkpoint corrects it downwards.
PASSES = 3.0


@dataclass(frozen=True)
class GuardSpec:
    """What a run is guarded with. time_share None: no budget. stop: an alarm ends the run.

    base: content hash of the base, under which its readings are kept in the user's cache; None: they are not.
    """

    items: GuardItems
    max_relative_drop: float = 0.05
    time_share: float | None = 0.10
    stop: bool = True
    checkpoints: int = CHECKPOINTS
    base: str | None = None


class Guard:
    """The guard of one run. ``place``: where what was measured is kept (``guard.json``).

    precision: of the training, in which the model is read as well. off: why nothing is read, None while it is
    on. stopped_at: the step of the alarm that ended the run.
    """

    def __init__(
        self,
        spec: GuardSpec,
        place: Path,
        steps: int,
        method: str,
        progress: Progress,
        precision: str = "fp32",
    ) -> None:
        self.spec, self.place, self.wanted = spec, place, steps
        self.method, self.progress, self.precision = method, progress, precision
        self.state: dict[str, Any] = checkpoints.read_json(place) or {}
        self._reader: LiveReader | None = None
        self._asked: list[Asked] = []
        self._kept: KeptScores | None = None

    @property
    def off(self) -> str | None:
        """Why nothing is read."""
        return self.state.get("off")

    @property
    def stopped_at(self) -> int | None:
        """The step at which an alarm ended the run."""
        return self.state.get("stopped_at")

    @property
    def timeline(self) -> list[dict[str, Any]]:
        """One entry per checkpoint that was read."""
        found: list[dict[str, Any]] = self.state.get("timeline", [])
        return found

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps after which the model is read; none before ``begin`` or when the guard is off.

        Never the first of several: the warm-up begins at a rate of nothing, so that it changes no weight.
        """
        count = 0 if self.off else self.state.get("checkpoints", 0)
        first = min(2, self.wanted)
        places = (max(first, math.ceil(self.wanted * k / count)) for k in range(1, count + 1))
        return tuple(dict.fromkeys(places))

    def begin(self, model: Any, tokenizer: Any, window: int | None, tokens: float) -> None:
        """Read the base, or find it read. tokens: what the whole run trains on.

        The model is the base: no step was made yet. Plans the test and tells what it can see.
        """
        if self.spec.base is not None:
            layout = "nf4" if self.method == "qlora" else str(model.dtype)
            unit = "-amx" if model.device.type == "cpu" and has_amx() else ""  # else bf16 factors are fp32
            read = f"{layout}-{self.precision}{unit}-{model.device.type}"
            self._kept = KeptScores(f"{self.spec.base}-training-{read}")
        if not self.off:
            self._reader = LiveReader(model, tokenizer, window, self.spec.items.benchmarks)
        if not self.state:
            self.state = self._planned(tokens)
            self.state["cut"] = self._refuse_unreadable(tokenizer, window)
            self._keep()
            self.progress.tell("note", text=self.in_words())
        used = set(self.state["used"])
        names = [benchmark.name for benchmark in self.spec.items.benchmarks]
        self._asked = [one for one in self.spec.items.a if names[one.benchmark] in used]

    def _refuse_unreadable(self, tokenizer: Any, window: int | None) -> list[str]:
        """Notes of items whose beginnings are cut off. Raises DataError for items that cannot be read at all.

        Of all that will be read, before the first step: what is found after training would cost the training.
        """
        items, used, notes = self.spec.items, self.state["used"], []
        most = max(self.state["items"], CHECK_ITEMS)
        asked = [*some_of(items.a, items, used, most), *some_of(items.b, items, used, most)]
        for place, benchmark in enumerate(items.benchmarks):
            own = [one.item for one in asked if one.benchmark == place]
            if cut := encode(tokenizer, own, window).cut:
                notes.append(
                    f"{len(cut)} of {len(own)} items of {benchmark.name} are longer than the {window} tokens "
                    "of the context window: their beginnings are cut off, first the examples"
                )
        return notes

    def _planned(self, tokens: float) -> dict[str, Any]:
        """The state before the first step: which benchmarks, how many items, what the base has right."""
        assert self._reader is not None
        spec, began = self.spec, time.perf_counter()
        pilot, known, speed = self._pilot()
        rows = standing(spec.items.benchmarks, pilot, [known[id(one)] for one in pilot])
        more = self._open_items([row["name"] for row in rows if row["why"] is not None and row["n"]])
        if more:
            known |= dict(zip(map(id, more), self._reader.read(more, self._kept), strict=True))
            pilot += more
            rows = standing(spec.items.benchmarks, pilot, [known[id(one)] for one in pilot])
        used = [row["name"] for row in rows if row["used"]]
        names = [benchmark.name for benchmark in spec.items.benchmarks]
        asked = [one for one in spec.items.a if names[one.benchmark] in used]
        each = sum(speed[one.benchmark] for one in asked) / max(1, len(asked))
        trains = PASSES * tokens * sum(speed.values()) / len(speed) / max(1.0, self._tokens_each(pilot))
        count, items = self._affordable(trains, each, len(asked))
        off = why_off(used, len(asked), items, spec.time_share)
        state: dict[str, Any] = {
            "off": off, "used": used, "checkpoints": count, "items": items, "benchmarks": rows,
            "seconds_per_item": each, "timeline": [], "settled": spec.time_share is None,
        }  # fmt: skip
        if off is None:
            chosen = asked[:items]
            missing = [one for one in chosen if id(one) not in known]
            known |= dict(zip(map(id, missing), self._reader.read(missing, self._kept), strict=True))
            base = [known[id(one)] for one in chosen]
            state["base"] = [asdict(read) for read in base]
            rows = standing(spec.items.benchmarks, chosen, base)
            state["benchmarks"] = [
                {**row, "used": True, "why": None} if row["name"] in used else before  # the pilot decided
                for row, before in zip(rows, state["benchmarks"], strict=True)
            ]
        return {
            **state,
            "seconds": {"base": time.perf_counter() - began, "checkpoints": 0.0, "training": 0.0},
        }

    def _pilot(self) -> tuple[list[Asked], dict[int, Read], dict[int, float]]:
        """The first items of each benchmark, read; and seconds per item of each benchmark.

        With a budget they are read anew, since their speed is what is wanted.
        """
        assert self._reader is not None
        known: dict[int, Read] = {}
        speed: dict[int, float] = {}
        pilot: list[Asked] = []
        for place in range(len(self.spec.items.benchmarks)):
            some = [one for one in self.spec.items.a if one.benchmark == place][:PILOT]
            if not some:
                continue
            began = time.perf_counter()
            read = self._reader.read(some, self._kept, find=self.spec.time_share is None)
            known |= dict(zip(map(id, some), read, strict=True))
            speed[place] = (time.perf_counter() - began) / len(some)
            pilot += some
        return pilot, known, speed

    def _open_items(self, open_ones: list[str]) -> list[Asked]:
        """The next items of the benchmarks that the first ones did not show above chance."""
        found: list[Asked] = []
        for place, benchmark in enumerate(self.spec.items.benchmarks):
            if benchmark.name in open_ones:
                own = [one for one in self.spec.items.a if one.benchmark == place]
                found += own[PILOT : PILOT + PILOT_AGAIN]
        return found

    def _tokens_each(self, pilot: list[Asked]) -> float:
        """Tokens of an item, on average."""
        assert self._reader is not None
        return self._reader.tokens / max(1, len(pilot))

    def _affordable(self, training: float, each: float, most: int) -> tuple[int, int]:
        """Checkpoints and items at each that fit into the share of so many seconds of training."""
        spec = self.spec
        if spec.time_share is None:
            return min(spec.checkpoints, self.wanted), most
        room = spec.time_share * training / max(each, 1e-9)
        for count in range(min(spec.checkpoints, self.wanted), 0, -1):
            if room / count >= COMFORTABLE or count == 1:
                return count, min(most, int(room / count))
        return 1, 0

    def settle(self, training: float) -> None:
        """At the first checkpoint: fewer items where training is faster than was foreseen. Once."""
        if self.state["settled"] or self.spec.time_share is None:
            return
        room = self.spec.time_share * training / max(self.state["seconds_per_item"], 1e-9)
        items = max(FEWEST, min(self.state["items"], int(room / self.state["checkpoints"])))
        if items < self.state["items"]:
            self.state["items"] = items
            text = f"{self.method}: training is faster than foreseen: {items} items a checkpoint"
            self.progress.tell("note", text=f"{text}; smallest drop it can see: {self.visible_in_words()}")
        share = FEWEST * self.state["checkpoints"] * self.state["seconds_per_item"] / max(training, 1e-9)
        if self.state["items"] == FEWEST and share > self.spec.time_share:
            self.progress.tell(
                "note",
                text=f"{self.method}: the guard will take about {share:.0%} of the training time and not "
                f"{self.spec.time_share:.0%}: the test takes {FEWEST} items at each checkpoint or more",
            )
        self.state["settled"] = True

    @property
    def test(self) -> GuardTest:
        """The test of this run."""
        return GuardTest(self.state["items"], self.state["checkpoints"], self.spec.max_relative_drop)

    def look(self, step: int, epoch: float, seconds: float) -> str | None:
        """Read the model as it is after ``step``; the outcome. Found where it was read before.

        seconds: of training so far. Decides look by look, so that a checkpoint at which nothing is wrong
        costs a part of the items.
        """
        for entry in self.timeline:
            if entry["step"] == step:
                return str(entry["outcome"])
        assert self._reader is not None
        began = time.perf_counter()
        self.settle(seconds / step * self.wanted)
        test, base = self.test, self.base
        read: list[Read] = []
        reading: GuardReading | None = None
        for place in test.looks:
            read += self._reader.read(self._asked[len(read) : place])
            reading = test.read([r.right for r in base[:place]], [r.right for r in read])
            if reading.outcome is not None:
                break
        assert reading is not None
        n = len(read)
        took = time.perf_counter() - began
        entry = {
            "step": step, "epoch": epoch, **reading.to_json(),
            "benchmarks": beside(self.spec.items.benchmarks, self._asked[:n], base[:n], read),
            "early": early_warning(base[:n], read), "seconds": took,
        }  # fmt: skip
        self.timeline.append(entry)
        self.state["seconds"]["checkpoints"] += took
        self.state["seconds"]["training"] = seconds
        if reading.outcome == "alarm" and self.spec.stop:
            self.state["stopped_at"] = step
        self._keep()
        self.progress.tell("note", text=f"{self.method}: {entry_in_words(entry)}")
        return reading.outcome

    @property
    def base(self) -> list[Read]:
        """What the base makes of the items, in order."""
        return [Read(**read) for read in self.state["base"][: self.state["items"]]]

    def close(self) -> None:
        """Let go of the model."""
        self._reader = None

    def _keep(self) -> None:
        checkpoints.write_json(self.place, self.state)

    def visible_in_words(self) -> str:
        """The smallest true drop that a checkpoint shows in nine of ten cases."""
        seen = smallest_drop(self)
        return "none, not even all of it" if seen is None else f"{100 * seen:.1f} %"

    def in_words(self) -> str:
        """What the guard will do, or why it does nothing."""
        rows = [row for row in self.state["benchmarks"] if row["why"]]
        said = [f"{row['name']} is not used for stopping: {row['why']}" for row in rows]
        if said and not set(self.state["used"]) >= set(FOR_SMALL_MODELS[:3]):
            said.append(f"small models are above chance on {', '.join(FOR_SMALL_MODELS)}")
        if self.off:
            plan = f"{self.method}: the guard is off while training: {self.off}"
            if checked_after(self.state, self.spec.items):
                plan += "; what comes out is checked on fresh items"
            return "; ".join([plan, *said])
        said += self.state.get("cut", ())
        if len(self.state["used"]) < 3:
            said.append("fewer than three benchmarks: what is lost elsewhere is not seen")
        share = (
            "no time budget" if self.spec.time_share is None else f"within {100 * self.spec.time_share:g} %"
        )
        used = ", ".join(self.state["used"])
        plan = (
            f"{self.method}: the guard reads up to {self.state['items']} items of {used} at "
            f"{len(self.steps)} checkpoints ({share} of the training time); smallest drop it can see: "
            f"{self.visible_in_words()}"
        )
        return "; ".join([plan, *said])

    def facts(self) -> dict[str, Any]:
        """All that was measured, JSON-able, for the report."""
        self.state = self.state or checkpoints.read_json(self.place) or {}  # another process measured
        kept = ("benchmarks", "used", "items", "timeline", "stopped_at", "seconds")
        facts: dict[str, Any] = {name: self.state.get(name) for name in kept}
        training = facts["seconds"]["training"]
        return {
            **facts,
            "off": self.off,
            "checkpoints": len(self.steps),
            "max_relative_drop": self.spec.max_relative_drop,
            "time_share": self.spec.time_share,
            "share": facts["seconds"]["checkpoints"] / training if training else None,
            "smallest_visible_drop": None if self.off else smallest_drop(self),
            "notes": [*self.spec.items.notes, *self.state.get("cut", ())],
        }


def smallest_drop(guard: Guard) -> float | None:
    """The smallest relative drop that one checkpoint shows in nine of ten cases."""
    base = guard.base
    right = min(0.99, sum(read.right for read in base) / len(base))  # undefined where nothing can be gained
    return guard.test.smallest_visible_drop(right)


def checked_after(guard: Mapping[str, Any], items: GuardItems) -> bool:
    """Whether what a run hands over can be tested on set B, also where there was no time to watch it."""
    return bool(guard["used"]) and len(some_of(items.b, items, guard["used"], FEWEST)) == FEWEST


def why_off(used: list[str], there: int, items: int, time_share: float | None) -> str | None:
    """Why a run cannot be guarded; None when it can."""
    if not used:
        return f"the base is above chance on no benchmark; add {', '.join(FOR_SMALL_MODELS)} to guard.data"
    if there < FEWEST:
        return f"set A holds {there} items, the test takes {FEWEST} or more; add rows to guard.data"
    if items < FEWEST:
        assert time_share is not None
        return (
            f"the run is so short that {100 * time_share:g} % of it reads {items} items, the test takes "
            f"{FEWEST} or more; raise guard.time_share, or take guard: full (--guard full) without a budget"
        )
    return None


def entry_in_words(entry: dict[str, Any]) -> str:
    """One checkpoint in a sentence."""
    drop, early, warns = "no drop can be given", entry["early"], ""
    if entry["drop"] is not None:
        low, high = 100 * entry["low"], 100 * entry["high"]
        drop = f"pooled drop {100 * entry['drop']:.1f} % (between {low:.1f} and {high:.1f})"
    if early["warns"]:
        warns = f"; early warning: right choices lost {early['estimate']:.3f} of their probability"
    outcome = str(entry["outcome"]).replace("_", " ")
    return f"guard at step {entry['step']}: {outcome}, {drop} on {entry['n']} items{warns}"
