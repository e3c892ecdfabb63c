"""A model whose weights are on this machine, behind the one door: the embedded one, a folder, a hub id."""

import gc
import hashlib
import json
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

from tunewise.data import Message
from tunewise.errors import DataError, DoorError, SettingError
from tunewise.models import tokens, weights
from tunewise.models.door import Answer, GrammarKind, Price, Request, without_thoughts
from tunewise.models.embedded import file_sha256, need_torch
from tunewise.models.grammar import GrammarTokens
from tunewise.models.precision import Precision, best_precision, can_round

if TYPE_CHECKING:
    from tunewise.models.writing import Generator, Prompt, Written

ROWS = 32  # answers written side by side
ROWS_GPU = 128  # on a GPU a step takes about as long for few rows as for many
LOOP = 3  # raise it when the generation loop changes so that answers can differ: recorded ones are asked anew


@dataclass(eq=False)
class Loaded:
    """Weights in memory with the loop that writes with them; doors to the same weights share it."""

    generator: "Generator"
    lock: threading.Lock


_loaded: WeakValueDictionary[tuple[str, str, int], Loaded] = WeakValueDictionary()
_loading = threading.Lock()


class LocalDoor:
    """Answers with local weights. Keeps the promises of ``models.door.Door``.

    folder_or_id: ``embedded``, a model's folder, or a hub id. adapter: folder in PEFT's layout, merged into
    weights in fp32, beside rounded ones. usd_per_hour: what this machine costs; None gives answers without a
    price. batch_size: answers written side by side; None takes what suits the device. precision: of matrix
    products on a CPU, ``auto`` the fastest that it multiplies itself; a GPU answers in bf16.

    Opening checks the files and reads no weights; these are loaded at the first answer. Raises SettingError
    for what cannot be used (no such model, pickles only, no torch), DoorError when the hub cannot be reached.
    """

    host: str | None = None
    price: Price | None = None
    concurrency = 1
    lost_replies = 0
    grammars: frozenset[GrammarKind] = frozenset({"json_schema", "regex", "choices"})

    def __init__(
        self,
        folder_or_id: str | Path,
        *,
        adapter: Path | None = None,
        name: str | None = None,
        usd_per_hour: float | None = None,
        batch_size: int | None = None,
        precision: Precision | Literal["auto"] = "fp32",
    ) -> None:
        need_torch()
        self.folder = weights.model_folder(folder_or_id)
        weights.weight_files(self.folder)
        self.adapter = adapter
        self.adapter_files = weights.adapter_files(adapter) if adapter is not None else []
        self.name = name or str(folder_or_id)
        self.usd_per_hour = usd_per_hour
        self._batch_size = batch_size
        self._asked_precision = precision
        self.context_window: int | None = weights.context_window(self.folder)
        self._held: Loaded | None = None
        self._grammars: GrammarTokens | None = None

    @cached_property
    def batch_size(self) -> int:
        """Requests that one call of ``answer`` takes; loads torch, to see the device."""
        return self._batch_size or (ROWS_GPU if weights.on_gpu() else ROWS)

    @cached_property
    def precision(self) -> Precision | None:
        """Of matrix products; None on a GPU, where the weights' own decides. Loads torch.

        Raises SettingError where bf16 is asked for by name and cannot be had.
        """
        if weights.on_gpu():
            return None
        if self._asked_precision == "bf16" and not can_round():
            raise SettingError(
                "decoding.precision: this CPU or this build of torch does not multiply bf16 in layers; take "
                "fp32, or auto, which does so where it can"
            )
        return best_precision() if self._asked_precision == "auto" else self._asked_precision

    @cached_property
    def fingerprint(self) -> str:
        """Changes with weights, tokenizer and template, adapter, number formats, and the loop."""
        products = {"products": self.precision} if self.precision == "bf16" else {}
        return self._fingerprint(products)

    @cached_property
    def weights_fingerprint(self) -> str:
        """As ``fingerprint``, whatever its layers multiply in: the same base is trained either way."""
        return self._fingerprint({})

    def _fingerprint(self, more: Mapping[str, str]) -> str:
        body = {
            "model": weights.model_checksum(self.folder),
            "adapter": [file_sha256(file) for file in self.adapter_files],
            "dtype": str(weights.device_and_dtype()[1]),
            "loop": LOOP,
            **more,
        }
        return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer alone, without the weights."""
        return weights.load_tokenizer(self.folder)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """The ids that the model reads when it is asked; loads the tokenizer only."""
        return tokens.render(self.tokenizer, messages)[0]

    def count_tokens(self, messages: Sequence[Message]) -> int | None:
        """Tokens of the rendered prompt; loads the tokenizer only."""
        return len(self.prompt_ids(messages))

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One Answer per request, in order. Raises DataError, before any is asked, if one does not fit."""
        if not requests:
            return []
        prompts = [self._prompt(request) for request in requests]
        held = self._load()
        with held.lock:
            started = time.perf_counter()
            try:
                written = held.generator.write(prompts)
            except RuntimeError as error:
                if not weights.out_of_memory(error):
                    raise
                longest = max(len(prompt.tokens) for prompt in prompts)
                raise DoorError(
                    f"{self.name}: {len(prompts)} prompts of up to {longest} tokens do not fit into memory "
                    "beside the weights. Free some, show fewer examples or passages, or take a smaller model."
                ) from error
            seconds = (time.perf_counter() - started) / len(prompts)
        alone = len(prompts) == 1
        return [self._answer(*pair, seconds, alone) for pair in zip(prompts, written, strict=True)]

    @property
    def hardware(self) -> str:
        """What the weights run on, for the report."""
        import torch

        device, dtype = weights.device_and_dtype()
        number_format = str(dtype).removeprefix("torch.")
        number_format += ", layers in bfloat16" if self.precision == "bf16" else ""
        if torch.device(device).type == "cuda":
            return f"{torch.cuda.get_device_name()}, {number_format}"
        return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, {number_format}"

    def close(self) -> None:
        """Let go of the weights, unless another door to the same ones is open."""
        self._held = None
        gc.collect()

    def _prompt(self, request: Request) -> "Prompt":
        from tunewise.models.writing import Prompt

        ids = self.prompt_ids(request.messages)
        longest = request.decoding.max_new_tokens
        if self.context_window is not None and len(ids) + longest > self.context_window:
            start = " ".join(request.messages[-1].content.split())[:80]
            raise DataError(
                f"A prompt has {len(ids)} tokens, and up to {longest} more are to be written; {self.name} "
                f"holds {self.context_window} in all. Shorten the input, show fewer examples or passages, or "
                f"lower decoding.max_new_tokens. The input begins: {start!r}"
            )
        limit = None if request.grammar is None else self._grammar_tokens().limit(request.grammar)
        return Prompt(tuple(ids), longest, request.decoding.temperature, request.decoding.seed, limit)

    def _grammar_tokens(self) -> GrammarTokens:
        """The tokenizer as grammars read it, made at the first request that has one (about a second)."""
        if self._grammars is None:
            self._grammars = GrammarTokens(self.tokenizer, sorted(self._load().generator.stops))
        return self._grammars

    def _answer(self, prompt: "Prompt", written: "Written", seconds: float, alone: bool) -> Answer:
        kept = written.tokens[:-1] if written.finish == "stop" else written.tokens
        return Answer(
            text=without_thoughts(
                self.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            ),
            finish=written.finish,
            tokens_in=len(prompt.tokens),
            cached_in=written.cached,
            tokens_out=len(written.tokens),
            first_token_s=written.first_s if alone else None,
            seconds=seconds,
            usd=None if self.usd_per_hour is None else seconds * self.usd_per_hour / 3600,
        )

    def _load(self) -> Loaded:
        if self._held is None:
            key = (str(self.folder.resolve()), self.fingerprint, self.batch_size)
            with _loading:
                held = _loaded.get(key)
                if held is None:
                    held = _loaded[key] = Loaded(self._generator(), threading.Lock())
            self._held = held
        return self._held

    def _generator(self) -> "Generator":
        from tunewise.models.shared_prefix import generator_for

        precision = self.precision or "fp32"
        model = weights.load_model(self.folder, self.adapter, merges=precision == "fp32")
        stops = tokens.stop_ids(self.tokenizer, model.generation_config)
        if not stops:
            raise SettingError(f"{self.name}: no token ends an answer.")
        return generator_for(model, stops, self.batch_size, precision)
