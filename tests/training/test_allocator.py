"""Freed memory is kept for the next pass, unless the user has said otherwise."""

import os
import subprocess
import sys

import pytest

PASSES = """
import os, torch
from tunewise.training.allocator import keep_freed_memory
kept = keep_freed_memory()
for _ in range(3):
    torch.ones(20_000_000)
before = os.times().system
for _ in range(20):
    torch.ones(20_000_000)
print(kept, os.times().system - before)
"""


def passes(**environment: str) -> tuple[str, float]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PASSES],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, seconds = done.stdout.split()
    return kept, float(seconds)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_a_tensor_made_again_costs_the_system_less_and_the_users_own_setting_is_left_alone() -> None:
    kept, seconds = passes()
    own, seconds_own = passes(MALLOC_TRIM_THRESHOLD_="134217728", MALLOC_MMAP_THRESHOLD_="33554432")
    assert (kept, own) == ("True", "False")
    assert seconds < 0.5 * seconds_own
