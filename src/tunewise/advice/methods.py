"""Full fine-tuning, LoRA or QLoRA: by quality ceiling, memory, forgetting and serving many tasks.

What the rules rest on (the framework's table): LoRA trains 0.1 to 2 % of the parameters, comes within 1 to
3 % of full fine-tuning, forgets less since the base is frozen, and stores 50 to 200 MB per task for a 7B
model where full fine-tuning stores 14 GB; QLoRA saves memory by holding the base in four bits.
"""

from dataclasses import dataclass
from typing import Literal

from tunewise.advice.facts import Facts, Tuning

ROWS_FOR_FULL = 10_000  # assumed: below it, the higher ceiling of full fine-tuning is seldom reached

Method = Literal["full", "lora", "qlora"]


@dataclass(frozen=True)
class MethodAdvice:
    """How to train; ``method`` None: no training is advised. rule: stable id."""

    method: Method | None
    rule: str
    why: str


def advise_method(facts: Facts, tuning: Tuning, tunes: bool) -> MethodAdvice:
    """Which way of training, as far as the facts say. tunes: the advised approach trains at all."""
    if not tunes:
        return MethodAdvice(None, "no_training", "The advised approach trains nothing.")
    fits = {method: _fits(tuning, method) for method in ("full", "lora", "qlora")}
    if fits["lora"] is False:
        return _without_lora(tuning, fits["qlora"])
    if tuning.tasks_served is not None and tuning.tasks_served > 1:
        return MethodAdvice(
            "lora",
            "many_tasks",
            f"{tuning.tasks_served:g} tasks share one base with an adapter each; full fine-tuning would store"
            " and serve as many models.",
        )
    if tuning.keep_general:
        return MethodAdvice(
            "lora",
            "keep_general",
            "The model must stay good at other things, and a frozen base with an adapter forgets less.",
        )
    if tuning.quality_ceiling:
        return _for_the_ceiling(facts, tuning, fits["full"])
    return MethodAdvice(
        "lora",
        "lora_by_default",
        "LoRA comes within 1 to 3 % of full fine-tuning for a fraction of its memory and time, and an adapter"
        " is easily thrown away; nothing known asks for more.",
    )


def _fits(tuning: Tuning, method: str) -> bool | None:
    needed = tuning.needs_gib.get(method)
    return None if needed is None or tuning.memory_gib is None else needed <= tuning.memory_gib


def _without_lora(tuning: Tuning, qlora_fits: bool | None) -> MethodAdvice:
    lora, qlora = tuning.needs_gib["lora"], tuning.needs_gib.get("qlora")
    short = f"LoRA would take about {lora:.1f} GiB and {tuning.memory_gib:g} GiB are there"
    if qlora_fits is False:
        return MethodAdvice(
            "qlora",
            "nothing_fits",
            f"{short}; not even QLoRA fits ({qlora:.1f} GiB): shorter sequences, a smaller model or another"
            " GPU are needed.",
        )
    return MethodAdvice("qlora", "memory", f"{short}: the base has to be held in four bits.")


def _for_the_ceiling(facts: Facts, tuning: Tuning, full_fits: bool | None) -> MethodAdvice:
    if full_fits is False:
        return MethodAdvice(
            "lora",
            "full_does_not_fit",
            f"The last points of quality matter, but full fine-tuning would take about"
            f" {tuning.needs_gib['full']:.1f} GiB and {tuning.memory_gib:g} GiB are there.",
        )
    if facts.dataset_size is not None and facts.dataset_size < ROWS_FOR_FULL:
        return MethodAdvice(
            "lora",
            "too_few_rows_for_full",
            f"The last points of quality matter, but {facts.dataset_size:,} rows seldom reach the higher"
            f" ceiling of full fine-tuning (assumed from {ROWS_FOR_FULL:,} rows on): measure LoRA first.",
        )
    return MethodAdvice(
        "full",
        "quality_ceiling",
        "The last points of quality matter more than memory, time and forgetting, and full fine-tuning has"
        " the slightly higher ceiling.",
    )
