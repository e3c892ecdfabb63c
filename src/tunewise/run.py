"""One run of ``decide``: opens what is needed, gives the ladder its hands, and keeps what it finds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunewise.before_training import what_knowing_costs
from tunewise.clocked import Clocked
from tunewise.data import Example
from tunewise.database import failures_in_words
from tunewise.decision import Build, RungResult, held_back
from tunewise.errors import BudgetEnded
from tunewise.evidence.judgement import ALPHA, Test, allowance, judge, make_test
from tunewise.evidence.limits import Probe
from tunewise.evidence.metrics import metric_of
from tunewise.evidence.records import Evidence, Outcome, Score, cut_off
from tunewise.evidence.runner import Runner
from tunewise.hosts import DISTILLED
from tunewise.ladder import Gap, Step, climb
from tunewise.left_out import without_overlap
from tunewise.measures import (
    Measures,
    gather_judged,
    judged,
    prepare,
    style_figures,
)
from tunewise.models.door import Answer, Door, Request, unpriced
from tunewise.more_rows import measure_curves
from tunewise.openings import next_opening, opening_number
from tunewise.plan_rungs import PlannedRung
from tunewise.probing import probe_limits, untested
from tunewise.rungs.gaps import measure_gap
from tunewise.rungs.rung import Candidate, Rung, Workbench
from tunewise.spending import Spending
from tunewise.splits import Parts
from tunewise.staleness import Staleness, measure_staleness
from tunewise.store import Store
from tunewise.task import Task
from tunewise.task_scores import score_answer

TRIED_ALONE = 16  # items asked one by one until a door answers; a host that serves none has ended the run


@dataclass
class Run:
    """The hands of the ladder for one task: builds candidates, gathers evidence, measures gaps.

    order: certification items in the one fixed random order that all rungs share.
    rungs_in_play: how many share the false-*meets* budget. ``results`` grows by one entry per rung.
    refusals: why doors, by fingerprint, cannot be asked with a grammar.
    planned: what each rung takes by the plan.
    """

    task: Task
    parts: Parts
    order: tuple[Example, ...]
    door: Door
    tune_door: Callable[[Path | None], Door] | None
    tune_door_missing: str
    store: Store
    spending: Spending
    runner: Runner
    folder: Path
    seed: int
    progress: Clocked
    rungs_in_play: int
    exhaustive: bool = False
    judge_door: Door | None = None
    teacher_door: Door | None = None
    measures: Measures = field(default_factory=Measures)
    results: list[RungResult] = field(default_factory=list)
    candidates: dict[str, Candidate] = field(default_factory=dict)
    outcomes: dict[str, tuple[Outcome, ...]] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    planned: Mapping[str, PlannedRung] = field(default_factory=dict)

    @property
    def openings(self) -> dict[str, Any]:
        """Which opening of its items this run is; before any answer, how often others opened them."""
        fixed: Any = self.store.frozen("openings")
        if fixed is not None:
            return dict(fixed)
        coming = next_opening([row.key for row in self.parts.certification], self.store.run_id)
        return {"number": coming.most, "fresh": coming.fresh, "most": coming.most, "opened": False}

    @property
    def alpha(self) -> float:
        """The false-*meets* budget of each rung; before an item was answered, what it would be."""
        openings = self.openings
        return allowance(self.rungs_in_play, openings["most"] + 1)

    def open_items(self, rung: str, candidate: Candidate) -> None:
        """Fix which opening this is: once a door has answered an item, and before any answer is scored.

        A run that no door answers opens nothing. Runs that start at once get different numbers.
        """
        if self.store.frozen("openings") is not None:
            return
        for example in self.order[:TRIED_ALONE]:
            request = candidate.request(example)
            [answer] = self.ask_for(rung, candidate.door, [request], "certification")
            if answer.status != "errored":
                break
        opening = opening_number([row.key for row in self.parts.certification], self.store.run_id)
        found = {"number": opening.number, "fresh": opening.fresh, "most": opening.most}
        self.store.freeze("openings", found)

    def climb(self, rungs: Sequence[Rung], left_out: Mapping[str, str]) -> bool:
        """Climb, and say whether the budget ended it; what was found until then stands in ``results``.

        left_out: rungs that are skipped before any call, with the reason.
        """
        steps = climb(
            rungs,
            cannot_help=lambda rung, done: left_out.get(rung.name) or rung.cannot_help(self.bench(done)),
            build=lambda rung, done: self.build(rung, self.bench(done)),
            gather=self.gather,
            probe=self.probe,
            diagnose=self.diagnose,
            holds_back=lambda candidate: held_back(candidate.facts()),
            on_not_proved=self.task.on_not_proved,
            exhaustive=self.exhaustive,
        )
        try:
            self.measures = prepare(self, self.judge_door)
            for step in steps:
                self.keep(step)
        except BudgetEnded as end:
            self.progress.tell("note", text=str(end))
            for rung in rungs[len(self.results) :]:
                if rung.name in left_out:
                    self.keep(Step(rung.name, skipped_because=left_out[rung.name]))
                else:
                    self.keep_cut_off(rung)
            return True
        measure_curves(self)
        return False

    def keep_cut_off(self, rung: Rung) -> None:
        """A rung that the budget ended: what its test had read, or that it was not measured.

        What an earlier session had read counts only where this one came to build the same candidate again.
        """
        outcomes = self.store.outcomes(rung.name)
        if not outcomes or rung.name not in self.candidates:
            why = (
                "before it was built again in this session; what an earlier one measured stays recorded"
                if outcomes
                else "before it was measured"
            )
            self.keep(Step(rung.name, skipped_because=f"the budget ended the run {why}"))
            return
        evidence = self.with_notes(self.read(rung.name, outcomes))
        self.outcomes[rung.name] = outcomes
        limits, probed = self.task.limits, None
        if limits is not None and evidence.verdict == "meets":
            probed = untested(limits, self.limit_alpha, "the budget ended the run before it was tested")
        self.keep(Step(rung.name, candidate=self.candidates[rung.name], evidence=evidence, probe=probed))

    def bench(self, done: Sequence[Step[Candidate]]) -> Workbench:
        """What the next rung may use: train and selection, and what the rungs below found."""
        built = {step.rung: step.candidate for step in done if step.candidate is not None}
        facts = {name: candidate.facts() for name, candidate in built.items()}
        return Workbench(
            task=self.task,
            parts=self.parts,
            door=self.door,
            tune_door=self.tune_door,
            tune_door_missing=self.tune_door_missing,
            ask=lambda door, requests, purpose: self.runner.ask(door, requests, purpose=purpose, rung=""),
            score=self.score,
            folder=self.folder / "rungs",
            seed=self.seed,
            progress=self.progress,
            teacher_door=self.teacher_door,
            built=built,
            selected={
                name: fact["selection_score"]
                for name, fact in facts.items()
                if isinstance(fact.get("selection_score"), float)
            },
            refusals=self.refusals,
            make_room=self.let_go_of_weights,
        )

    def let_go_of_weights(self) -> None:
        """Have all doors to weights on this machine close; what is behind a network stays open."""
        named = (self.door, self.teacher_door, self.judge_door)
        for door in (*named, *(candidate.door for candidate in self.candidates.values())):
            if door is not None and door.host is None:
                door.close()

    def build(self, rung: Rung, bench: Workbench) -> Candidate:
        """Build one rung, or find it as an earlier, interrupted run left it. Raises NotBuilt as it does."""
        said = what_knowing_costs(self.results, rung.name, rung.outlook(bench), self.planned.get(rung.name))
        if said is not None:
            self.progress.tell("note", text=said)
        self.progress.tell("rung", rung=rung.name, state="building")
        started = time.monotonic()
        own = replace(
            bench,
            parts=without_overlap(bench.parts, rung.name),
            ask=lambda door, requests, purpose: self.ask_for(rung.name, door, requests, purpose),
        )
        rate = self.usd_per_hour(rung, own)
        with self.progress.paying(rung.name, rate):
            candidate = rung.build(own)
        with failures_in_words(own.folder / rung.name):
            candidate.save(own.folder / rung.name)
        self.store.freeze(f"build seconds of {rung.name}", time.monotonic() - started)
        if rate is not None:
            self.store.freeze(f"build usd of {rung.name}", self.store.cost("training", rung=rung.name))
        self.candidates[rung.name] = candidate
        return candidate

    def usd_per_hour(self, rung: Rung, bench: Workbench) -> float | None:
        """What the machine that trains a rung costs; None for others, without a price, and once built."""
        rate = self.task.tune.usd_per_hour if self.task.tune is not None else None
        if not rung.outlook(bench).train_rows or self.store.frozen(f"build usd of {rung.name}") is not None:
            return None
        return rate

    def ask_for(self, rung: str, door: Door, requests: Sequence[Request], purpose: str) -> list[Answer]:
        """Answers, from the store where they were paid for before.

        While the hours of a machine are counted, what its weights answer has no price of its own.
        """
        if self.progress.pays and door.host is None:
            with unpriced(door):
                return self.runner.ask(door, requests, purpose=purpose, rung=rung)
        return self.runner.ask(door, requests, purpose=purpose, rung=rung)

    def score(self, example: Example, answer: Answer) -> Score:
        """The task's metric on one answer; what the door refused or could not give is no score."""
        return score_answer(self.task, self.parts, example, answer, self.measures)

    def read(self, rung: str, outcomes: tuple[Outcome, ...]) -> Evidence:
        """What outcomes prove: by the sequential test, or, under a judge, by people's labels at fixed n."""
        if self.measures.judge is not None:
            return judged(self, rung, outcomes)
        evidence = judge(self.test(), outcomes, self.alpha)
        if self.measures.style is not None:
            figures, notes = style_figures(self.measures.style, evidence.outcomes)
            self.measures.by_rung[rung] = figures
            evidence = replace(evidence, notes=(*evidence.notes, *notes))
        return evidence

    def test(self) -> Test:
        """The sequential test that every rung of this run faces."""
        return make_test(
            metric_of(self.task).kind,
            target=self.task.target,
            tolerance=self.task.zone,
            alpha_meets=self.alpha,
            items=len(self.order),
        )

    def gather(self, rung: Rung, candidate: Candidate) -> Evidence:
        """Ask the certification items until the sequential test stops, and read the test."""
        self.open_items(rung.name, candidate)
        test = self.test()
        self.progress.tell("rung", rung=rung.name, state="measuring", cap=test.cap)
        if self.measures.judge is not None:
            everything = read = gather_judged(self, rung.name, candidate, test.cap)
        else:
            gathered = self.runner.gather(
                candidate,
                self.order,
                test,
                self.score,
                rung=rung.name,
                exhaustive=self.exhaustive,
                on_look=lambda read: self.show(rung.name, read, test),
            )
            everything, read = gathered.outcomes, gathered.read
        evidence = self.with_notes(self.read(rung.name, read))
        self.outcomes[rung.name] = everything
        self.progress.tell(
            "measuring",
            rung=rung.name,
            n=evidence.n,
            cap=test.cap,
            estimate=evidence.estimate,
            low=evidence.low,
            high=evidence.high,
            verdict=evidence.verdict,
        )
        return evidence

    def with_notes(self, evidence: Evidence) -> Evidence:
        """Evidence that says how many answers were cut off, and what it is without items near to the rows."""
        evidence, cut = self.with_near_note(evidence), cut_off(evidence)
        most = self.task.decoding.max_new_tokens
        note = f"{cut} of {len(evidence.outcomes)} answers were cut off at decoding.max_new_tokens ({most})"
        return replace(evidence, notes=(*evidence.notes, note)) if cut else evidence

    def with_near_note(self, evidence: Evidence) -> Evidence:
        """Evidence that says what the estimate is without items near to rows that a rung learns from."""
        near = self.parts.near_keys()
        apart = [o.value for o in evidence.outcomes if o.example not in near and o.value is not None]
        left_out = sum(o.example in near for o in evidence.outcomes)
        if not left_out:
            return evidence
        figure = f"{sum(apart) / len(apart):.3f}" if apart else "undefined"
        note = f"{left_out} items are near to train or selection rows; the estimate without them is {figure}"
        return replace(evidence, notes=(*evidence.notes, note))

    def show(self, rung: str, read: Sequence[Outcome], test: Test) -> None:
        """One look for the reader: the running mean and its interval."""
        values = [o.value for o in read if o.value is not None]
        estimate = sum(values) / len(values) if values else None
        low, high = test.interval(values[: test.cap])
        self.progress.tell(
            "measuring", rung=rung, n=len(read), cap=test.cap, estimate=estimate, low=low, high=high
        )

    def probe(self, rung: Rung, candidate: Candidate) -> Probe | None:
        """Try the limits of a rung whose quality meets; None where the task sets none."""
        limits = self.task.limits
        if limits is None:
            return None
        self.progress.tell("rung", rung=rung.name, state="probing")
        return probe_limits(
            self.store, self.runner, candidate, self.order, limits, self.limit_alpha, self.progress
        )

    @property
    def limit_alpha(self) -> float:
        """False-*meets* budget of each limit of a rung: alpha / R at every opening, since calls are fresh."""
        in_play: Any = self.store.frozen("rungs in play")
        return ALPHA / len(in_play)

    def diagnose(self, rung: Rung, candidate: Candidate, evidence: Evidence) -> Gap | None:
        """Which gap the failures of a rung show, on selection items."""
        if not self.parts.selection:
            return None
        bench = replace(
            self.bench([]),
            ask=lambda door, requests, purpose: self.ask_for(rung.name, door, requests, purpose),
        )
        return measure_gap(bench, rung.name, candidate)

    def staleness(self, documents_after: Path) -> Staleness:
        """How the measured rungs do with a later version of the documents; after the decision."""
        measured = {r.rung for r in self.results if r.evidence is not None}
        self.progress.tell("note", text=f"asking again with {documents_after.name}, nothing built anew")
        return measure_staleness(
            {name: candidate for name, candidate in self.candidates.items() if name in measured},
            self.order,
            documents_after,
            self.ask_for,
            self.score,
            self.task.metric,
        )

    def keep(self, step: Step[Candidate]) -> None:
        """Turn a step of the climb into a result, and tell the reader."""
        build = None
        if step.candidate is not None:
            seconds = self.store.freeze(f"build seconds of {step.rung}", 0.0)
            build = Build(seconds, self.usd_of_building(step.rung, step.candidate), step.candidate.facts())
        self.results.append(
            RungResult(
                step.rung,
                skipped_because=step.skipped_because,
                evidence=step.evidence,
                gap=step.gap,
                build=build,
                all_outcomes=self.outcomes.get(step.rung, ()) if self.exhaustive else (),
                figures=self.figures(step.evidence),
                probe=step.probe,
            )
        )
        state = "skipped" if step.skipped_because else "done"
        verdict = step.verdict
        self.progress.tell("rung", rung=step.rung, state=state, reason=step.skipped_because, verdict=verdict)

    def usd_of_building(self, rung: str, candidate: Candidate) -> float | None:
        """Training on a machine with a price, and the calls of a search or to a teacher.

        None where a host that was asked names no price, or nothing of it has one. What a machine of one's own
        answers beside training on it counts as nothing more: the hours are paid already.
        """
        training: float | None = self.store.frozen(f"build usd of {rung}")
        if self.builder_without_price(rung) or (training is None and candidate.door.price is None):
            return None
        calls = self.store.usd_of_building(rung)
        return calls if training is None else training + (calls or 0.0)

    def builder_without_price(self, rung: str) -> bool:
        """True where building this rung asked a host that names no price: what it cost is not known."""
        doors = [self.candidates[rung].door]
        if rung == DISTILLED:
            doors.append(self.teacher_door or self.door)
        return any(door.host is not None and door.price is None for door in doors)

    def figures(self, evidence: Evidence | None) -> Mapping[str, Any]:
        """The metric's figures over all outcomes that the test has read."""
        summary = metric_of(self.task).summary
        return {} if evidence is None or summary is None else summary(evidence.outcomes)
