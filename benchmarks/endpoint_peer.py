"""The peer of `endpoint.py`: inspect_ai asks the same prompts at the same endpoint. Prints one JSON line.

    python benchmarks/endpoint_peer.py URL REQUESTS CONCURRENCY WORDS

Runs in an environment with `pip install inspect-ai openai`. Two ways: ``eval`` is its product (solver, log
file, the counterpart of our store), ``generate`` is its bare client without any record.
"""

import asyncio
import json
import os
import sys
import tempfile
import time


def main() -> None:
    url, count, concurrency, words = sys.argv[1], *map(int, sys.argv[2:5])
    os.environ["MOCK_BASE_URL"], os.environ["MOCK_API_KEY"] = f"{url}/v1", "none"
    prompts = [f"Prompt {number}: " + "word " * words for number in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["INSPECT_LOG_DIR"] = folder
        seconds = {
            "generate": time_generate(prompts, concurrency),
            "eval": time_eval(prompts, concurrency, folder),
        }
    import inspect_ai

    print(json.dumps({"version": inspect_ai.__version__, "seconds": seconds}), flush=True)


def time_generate(prompts: list[str], concurrency: int) -> float:
    """Seconds of its model client alone, all prompts started at once, bounded by max_connections."""
    from inspect_ai.model import GenerateConfig, get_model

    async def ask_all() -> float:
        config = GenerateConfig(max_connections=concurrency, temperature=0, max_tokens=256)
        async with get_model("openai-api/mock/mock", config=config, memoize=False) as model:
            started = time.perf_counter()
            outputs = await asyncio.gather(*(model.generate(prompt) for prompt in prompts))
            seconds = time.perf_counter() - started
        assert all(output.completion for output in outputs)
        return seconds

    return asyncio.run(ask_all())


def time_eval(prompts: list[str], concurrency: int, folder: str) -> float:
    """Seconds of one evaluation with its log, from the call of ``eval`` to its return."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.solver import generate

    task = Task(dataset=[Sample(input=prompt) for prompt in prompts], solver=generate())
    started = time.perf_counter()
    [log] = eval(
        task,
        model="openai-api/mock/mock",
        max_connections=concurrency,
        max_samples=concurrency,
        temperature=0,
        max_tokens=256,
        display="none",
        log_dir=folder,
    )
    seconds = time.perf_counter() - started
    assert log.status == "success", log.error
    assert log.samples is not None
    assert len(log.samples) == len(prompts)
    return seconds


if __name__ == "__main__":
    main()
