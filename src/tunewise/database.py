"""One SQLite file: opened, brought to the newest shape, its failures said in words."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from tunewise.errors import RunError, SettingError, StoreError

_READ_ONLY = "it cannot be written; make the file and its folder writable, or choose another folder"
_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and run the same command again",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written; check its free space and its health, "
    "then run the same command again",
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and can be written, "
    "or choose another folder",
    sqlite3.SQLITE_NOTADB: "it is not a database, or it is damaged; move it away, or choose another folder",
    sqlite3.SQLITE_CORRUPT: "it is damaged; move it away, or choose another folder",
    sqlite3.SQLITE_BUSY: "another program holds it; end that program and run the same command again",
}


@contextmanager
def failures_in_words(path: Path) -> Iterator[None]:
    """Turn failures of SQLite and of the file system on ``path`` into StoreError with what to do."""
    try:
        yield
    except sqlite3.ProgrammingError:
        raise  # a bug of ours, such as a closed connection
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        advice = _ADVICE.get(code & 0xFF if code is not None else -1, "what was recorded before is kept")
        raise StoreError(f"{path}: {error}: {advice}.") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"{path}: {why}: free space or make the folder writable, or choose another folder."
        ) from error


def make_folder(folder: Path) -> None:
    """Create ``folder`` with its parents.

    Raises SettingError where a file has its name or a parent's, StoreError when it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingError(f"{folder}: a folder was expected, and a file stands in its way") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"{folder}: the folder cannot be created ({why}): choose another folder, or make its parent "
            "writable."
        ) from error


def connect(path: Path, *, pragmas: Sequence[str]) -> sqlite3.Connection:
    """Open ``path`` in autocommit mode, usable from any thread under a lock of the caller's."""
    with failures_in_words(path):
        connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        try:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: committed at the end, rolled back when anything is raised."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def migrate(connection: sqlite3.Connection, path: Path, folder: str, application_id: int) -> None:
    """Run the numbered migrations of ``tunewise/<folder>`` that ``path`` has not seen, each all or nothing.

    Raises RunError when the file belongs to another program or to a newer tunewise.
    """
    scripts = sorted(
        (int(entry.name[:4]), entry.read_text(encoding="utf-8"))
        for entry in resources.files("tunewise").joinpath(folder).iterdir()
        if entry.name.endswith(".sql")
    )
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and owner != application_id:
        raise RunError(f"{path} is a database of another program: choose another folder.")
    if version > scripts[-1][0]:
        raise RunError(
            f"{path} was written by a newer tunewise (format {version}, this one knows {scripts[-1][0]}): "
            "update tunewise, or choose another folder."
        )
    for number, script in scripts:
        if number > version:
            _run_script(connection, number, script, application_id)


def _run_script(connection: sqlite3.Connection, number: int, script: str, application_id: int) -> None:
    try:
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{script}\nPRAGMA application_id = {application_id};\n"
            f"PRAGMA user_version = {number};\nCOMMIT;"
        )
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
