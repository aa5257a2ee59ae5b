"""SQLite databases, read only: bounded in time and memory, without views, whose rows may have no end."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

from probe.readers.text import check_file

MAGIC = b"SQLite format 3\0"
_SECONDS, _SECONDS_PER_MEGABYTE = 5.0, 1.0
_LONGEST_VALUE = 2**26  # bytes
_INSTRUCTIONS = 100_000  # between two looks at the clock


@contextmanager
def open_database(path: Path, what: str) -> Iterator[sqlite3.Connection]:
    """Open a database to read it, and close it.

    Parameters
    ----------
    path
        The file.
    what
        By whom it was written, for the message of an error.

    Raises
    ------
    ValueError
        If the file is no database, is damaged, or reading it takes longer than its size allows.
    """
    check_file(path)
    deadline = monotonic() + _SECONDS + _SECONDS_PER_MEGABYTE * path.stat().st_size / 1e6
    try:
        with closing(_connection(path)) as database:
            database.text_factory = lambda text: text.decode(errors="replace")
            database.set_progress_handler(lambda: monotonic() > deadline, _INSTRUCTIONS)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_VALUE)
            database.execute("PRAGMA trusted_schema = OFF")
            yield database
    except sqlite3.Error as error:
        reason = "no end of its rows in time" if str(error) == "interrupted" else str(error)
        raise ValueError(f"Expected a database of {what} in {path.name}, got {reason}; check the file") from error


def _connection(path: Path) -> sqlite3.Connection:
    """Connect to a database, also in a folder in which SQLite cannot write its lock."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    database = sqlite3.connect(uri, uri=True)
    try:
        database.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError:
        database.close()
        database = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return database


def columns_of(database: sqlite3.Connection, table: str) -> set[str]:
    """Return the names of the columns of a table; an empty set if there is none, or if it is a view."""
    query = "SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table' AND sql LIKE 'CREATE TABLE%'"
    if database.execute(query, (table,)).fetchone() is None:
        return set()
    return {str(row[1]) for row in database.execute(f"PRAGMA table_xinfo({table})") if row[-1] == 0}  # not computed


def has_columns(path: Path, start: bytes, table: str, columns: set[str]) -> bool:
    """Return whether a file that begins with ``start`` is a database with a table of these columns."""
    if not start.startswith(MAGIC):
        return False
    try:
        with open_database(path, "a logger") as database:
            return columns_of(database, table) >= columns
    except (ValueError, OSError):
        return False
