"""Sections of the task file about training: ``tune``'s method and ``training``."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from tunewise.task_fields import Count, DataFile, Documents, Number, Positive, Section, Text, mistake
from tunewise.task_mistakes import shown

SHARE = 0.30  # general rows among all, once general data is given


class MixSection(Section):
    """General data among the task's rows. ``share``: of all rows trained on.

    replay: train on the base model's own answers to the prompts of ``general``, which needs no answers then;
    max_new_tokens: of such an answer, longer ones are not used.
    """

    general: DataFile
    share: Annotated[Number, Field(gt=0, lt=1)] = SHARE
    replay: bool = False
    max_new_tokens: Count = 256


class PretrainingSection(Section):
    """Continual pre-training on raw documents, the first stage of ``cpt-sft``.

    documents: by default ``knowledge.documents``. general: rows of text on which perplexity is measured
    before and after, by default ``training.mix.general``; only a mix trains on them. tokens: most that are
    trained on, by default all. length: of a piece, in tokens. epochs: passes over the pieces.
    learning_rate: by default the method's.
    """

    documents: Documents | None = None
    general: DataFile | None = None
    tokens: Count | None = None
    length: Annotated[Count, Field(ge=16)] = 512
    epochs: Positive = 1.0
    learning_rate: Positive | None = None


class RetrievalSection(Section):
    """Passages in the training prompts of ``rag-lora``.

    passages: how many stand in a prompt, by default as many as ``rag`` chose, else 3. present: share of
    the prompts that hold the right passage; the others hold distractors only.
    """

    passages: Count | None = None
    present: Annotated[Number, Field(gt=0, le=1)] = 0.80


class KlSection(Section):
    """KL to the base on general rows as a second loss. ``weight``: of it beside the task loss; ``rows``: read
    at each step.
    """

    general: DataFile
    weight: Positive = 0.1
    rows: Count = 2


def _targets(value: object) -> object:
    """``all-linear``, or a list of layers' names."""
    if value == "all-linear":
        return ()
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise mistake(f"all-linear or a list of layers was expected ([q_proj, v_proj]), got {shown(value)}")
    return value


class Training(Section):
    """Settings of the training rungs. None: what the method takes (``training.methods``).

    learning_rate: 2e-4 for lora and qlora, 2e-5 for full. ``batch_size`` in rows; ``epochs`` passes over
    the train part. schedule: how the rate falls after the warm-up. lora_targets: the linear layers that get
    an adapter, none named for all. max_length: tokens of prompt and answer, by default the model's context
    window; patience: epochs in a row without a lower held-out loss, after which training stops (null: never);
    too_long: what becomes of rows beyond it. checkpointing: less memory for a third more time. curve:
    train on 25 and 50 % of the rows too, to see whether more would help; ``auto``: in ``decide``, where the
    rung does not meet its target. precision: see ``models.precision``; ``auto`` is what the machine does
    best, and for what another machine began, what it began with.
    """

    learning_rate: Positive | None = None
    epochs: Positive = 3.0
    weight_decay: Annotated[Number, Field(ge=0)] = 0.01
    max_grad_norm: Positive = 1.0
    schedule: Literal["linear", "cosine"] | None = None
    lora_rank: Count = 8
    lora_alpha: Count | None = None
    lora_targets: Annotated[tuple[Text, ...], BeforeValidator(_targets)] = ()
    batch_size: Count = 8
    max_length: Count | None = None
    too_long: Literal["drop", "refuse", "truncate_left"] = "drop"
    checkpointing: bool = False
    curve: Literal["auto"] | bool = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    patience: Count | None = 2  # beyond the usual three epochs; those it cannot shorten
    mix: MixSection | None = None
    cpt: PretrainingSection | None = None
    retrieval: RetrievalSection | None = None
    kl: KlSection | None = None
