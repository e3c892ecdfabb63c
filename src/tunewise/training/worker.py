"""One process of a training launch: ``python -m tunewise.training.worker JOB``, started by accelerate.

Every process runs the same recipe on the same job; the first tells the progress, as JSON lines on standard
output, and writes ``trained.json`` when all is done.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from tunewise.errors import OutOfMemory, TunewiseError
from tunewise.training import checkpoints
from tunewise.training.launch import FAILED, read_job
from tunewise.training.recipe import train


class Lines:
    """Tells the progress as one JSON object per line."""

    def tell(self, event: str, **facts: Any) -> None:
        """See Progress."""
        print(json.dumps({"event": event, **facts}), flush=True)


def take_own_gpu() -> None:
    """Make this process's GPU the current one before weights are loaded: else all would load on the first."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def main(job: Path) -> None:
    """Train as the job says."""
    given = read_job(job)
    take_own_gpu()
    try:
        trained = train(**given, progress=Lines())
    except TunewiseError as error:  # said once, by the process that launched this one
        said = {"kind": type(error).__name__, "says": str(error)}
        rows = {"rows": error.rows} if isinstance(error, OutOfMemory) else {}
        checkpoints.write_json(given["work"] / FAILED, {**said, **rows})
        sys.exit(f"{error}")
    if os.environ.get("RANK", "0") == "0":
        checkpoints.write_json(given["work"] / "trained.json", trained.facts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
