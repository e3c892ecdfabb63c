"""Everything tunewise raises on purpose.

    TunewiseError
    ├── UserError            the user can mend it; printed without a traceback, exit code 2
    │   ├── TaskFileError    every mistake of one task file, reported at once
    │   ├── DataError        a row, a file or a folder of data is not what it should be
    │   ├── SettingError     an option, a model or an extra that cannot be used as asked
    │   └── RunError         the run folder holds another run, or is in use
    ├── WorldError           something outside failed; the run can be resumed, exit code 1
    │   ├── DoorError        the model could not be reached, refused the key, or spoke another language
    │   ├── StoreError       the disk is full or read-only, or the store does not hold what it should
    │   └── OutOfMemory      a device has no room for a pass of training
    └── BudgetEnded          the cap on money or time was reached, exit code 5

A message says what was expected, what came (file, line, key, value), and what to do.
"""

from collections.abc import Sequence


class TunewiseError(Exception):
    """Root of all errors that tunewise raises on purpose."""

    exit_code = 1


class UserError(TunewiseError):
    """A mistake that the user can mend: exit code 2, no traceback."""

    exit_code = 2


class TaskFileError(UserError):
    """All mistakes of one task file, or of another YAML file (``kind``), one line each."""

    def __init__(self, path: object, problems: Sequence[str], kind: str = "task file") -> None:
        self.path = path
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{path}: {count} mistake{'s' if count != 1 else ''} in the {kind}"
        super().__init__("\n".join([head, *(f"  - {problem}" for problem in self.problems)]))


class DataError(UserError):
    """A row, a file or a folder of data is not what it should be."""


class SettingError(UserError):
    """An option, a model or an extra that cannot be used as asked."""


class RunError(UserError):
    """The run folder holds another run, or another process is using it."""


class WorldError(TunewiseError):
    """Something outside failed; what was measured is kept and the run can be resumed."""


class DoorError(WorldError):
    """The model could not be reached, refused the key, or gave answers of another shape.

    unanswered: attempts that were sent and never answered; a host may charge for each.
    """

    def __init__(self, message: str, unanswered: int = 0) -> None:
        super().__init__(message)
        self.unanswered = unanswered


class StoreError(WorldError):
    """The disk is full or read-only, or the store does not hold what it should."""


class OutOfMemory(WorldError):
    """A device has no room for a pass of training with ``rows`` rows."""

    def __init__(self, says: str, rows: int = 0) -> None:
        self.rows = rows
        super().__init__(says)


class BudgetEnded(TunewiseError):
    """The cap on money or time was reached before the next call."""

    exit_code = 5
