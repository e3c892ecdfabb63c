"""Freed memory is kept for the next pass, unless the user has said otherwise."""

import os
import subprocess
import sys

import pytest

# Pages are counted, not seconds: what a page costs differs tenfold between hosts. In the first passes a small
# piece may come to lie behind the large one, whose place is then too short for the next aligned request.
PASSES = """
import resource, torch
from tunewise.training.allocator import keep_freed_memory
def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
kept = keep_freed_memory()
for _ in range(15):
    torch.ones(20_000_000)
before = pages()
for _ in range(20):
    torch.ones(20_000_000)
print(kept, pages() - before)
"""


def passes(**environment: str) -> tuple[str, int]:
    """Whether freed memory is kept, and the pages that 20 tensors of 80 MB took from the system."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PASSES],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    kept, taken = done.stdout.split()
    return kept, int(taken)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_a_tensor_made_again_costs_the_system_less_and_the_users_own_setting_is_left_alone() -> None:
    kept, pages = passes()
    own, pages_own = passes(MALLOC_TRIM_THRESHOLD_="134217728", MALLOC_MMAP_THRESHOLD_="33554432")
    assert (kept, own) == ("True", "False")
    assert pages < 0.2 * pages_own
