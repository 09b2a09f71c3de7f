"""The results file: SQLite, one row per finished run, committed before the next one starts.

A run is claimed before it starts, so that batches on one file share the work; the claims of a
batch that died are free again. The file belongs on a disk of the host where the batches run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nptp_opt.comparison.cells import row_fault
from nptp_opt.comparison.runs import Run
from nptp_opt.errors import InputError

VERSION = 3
APPLICATION = 0x4E505450
"""Marks the file as ours ("NPTP"), in SQLite's header."""

COLUMNS = {
    "key": "TEXT PRIMARY KEY",
    "instance": "TEXT NOT NULL",
    "kind": "TEXT NOT NULL",
    "method": "TEXT NOT NULL",
    "solver": "TEXT",
    "seed": "INTEGER NOT NULL",
    "time_limit_s": "REAL NOT NULL",
    "harness": "TEXT NOT NULL",
    "status": "TEXT",
    "termination": "TEXT",
    "message": "TEXT",
    "fault": "TEXT",
    "value_s": "REAL",
    "bound_s": "REAL",
    "any_bound_s": "REAL",
    "root_bound_s": "REAL",
    "synchronous_s": "REAL",
    "nodes": "INTEGER",
    "rows": "INTEGER",
    "columns": "INTEGER",
    "nonzeros": "INTEGER",
    "integers": "INTEGER",
    "build_s": "REAL",
    "solve_s": "REAL",
    "bound_s_seconds": "REAL",
    "wall_s": "REAL",
    "cpu_s": "REAL",
    "peak_mib": "REAL",
    "stdout_bytes": "INTEGER",
    "started_at": "REAL",
    "tool": "TEXT",
    "tiles": "TEXT",
    "trace": "TEXT",
    "notes": "TEXT",
    "spec": "TEXT NOT NULL",
}
EXECUTION = {
    "key": "TEXT NOT NULL",
    "how": "TEXT NOT NULL",
    "measured_s": "REAL",
    "fastest_s": "REAL",
    "slowest_s": "REAL",
    "repeats": "INTEGER NOT NULL",
    "message": "TEXT",
    "started_at": "REAL NOT NULL",
}
"""What ``report --execute`` keeps of a plan's execution; without ``measured_s`` it failed."""

JSON_COLUMNS = ("tiles", "trace", "notes", "spec")

FAILED = "harness != 'finished' OR fault IS NOT NULL"
"""What ``--retry failed`` does again."""

_SCHEMA = f"""
CREATE TABLE runs ({", ".join(f'"{name}" {kind}' for name, kind in COLUMNS.items())});
CREATE TABLE claims (key TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL,
                     born TEXT NOT NULL);
CREATE TABLE plans (key TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE executions ({", ".join(f'"{name}" {kind}' for name, kind in EXECUTION.items())},
                         PRIMARY KEY (key, how));
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {VERSION};
"""


class Store:
    """An open results file; safe to use from several threads. Errors are InputErrors."""

    def __init__(self, path: Path, *, create: bool = True, write: bool = False) -> None:
        self.path, self._create = path, create
        self._lock = threading.Lock()
        if not create and not path.exists():
            raise InputError(f"{path}: there is no such results file; make it with `compare`")
        with self._errors():
            how = "" if create else f"?mode={'rw' if write else 'ro'}"
            self._db = sqlite3.connect(
                f"file:{path.absolute()}{how}",
                uri=True,
                timeout=60,
                isolation_level=None,
                check_same_thread=False,
            )
            self._open()

    def _open(self) -> None:
        if self._create:
            self._db.execute("BEGIN IMMEDIATE")
        empty = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if self._create and empty:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
        if self._create:
            self._db.execute("COMMIT")
        mark = self._db.execute("PRAGMA application_id").fetchone()[0]
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if mark != APPLICATION:
            raise self._no_results_file()
        if version != VERSION:
            raise InputError(
                f"{self.path}: is a results file of version {version}, this nptp-opt knows "
                f"version {VERSION}: use the nptp-opt that wrote it, or another -o"
            )

    def _no_results_file(self) -> InputError:
        """What to do depends on who asks: ``compare`` writes the file, ``report`` reads it."""
        todo = "give another -o" if self._create else "name a file that `compare -o` wrote"
        return InputError(f"{self.path}: is no results file of `compare`; {todo}")

    def _broken(self, table: str, fault: object) -> InputError:
        """What stands in it was not written by ``compare``."""
        return InputError(
            f"{self.path}: table {table} holds what `compare` does not write ({fault}): compare "
            "again with another -o"
        )

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """One line instead of SQLite's exceptions; what is stored stays stored."""
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
                raise self._no_results_file() from None
            raise InputError(
                f"{self.path}: {error}; what is stored in it is kept. Make room or make the file "
                "writable, then start again: finished runs are not repeated"
            ) from None

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def pending(self, runs: Sequence[Run]) -> list[Run]:
        """Runs that have no row yet."""
        with self._lock, self._errors():
            done = {key for (key,) in self._db.execute("SELECT key FROM runs")}
        return [run for run in runs if run.key not in done]

    def claim(self, run: Run) -> bool:
        """Reserve a run for this process; False where it is done or another live batch has it."""
        mine = (socket.gethostname(), os.getpid(), _birth(os.getpid()))
        with self._transaction() as db:
            if db.execute("SELECT 1 FROM runs WHERE key = ?", (run.key,)).fetchone():
                return False
            holder = db.execute(
                "SELECT host, pid, born FROM claims WHERE key = ?", (run.key,)
            ).fetchone()
            if holder is not None and _alive(*holder):
                return False
            db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?, ?, ?)", (run.key, *mine))
        return True

    def release(self, runs: Sequence[Run]) -> None:
        """Give back claims of this process on runs that it did not finish."""
        keys = [(run.key, os.getpid()) for run in runs]
        with self._transaction() as db:
            db.executemany("DELETE FROM claims WHERE key = ? AND pid = ?", keys)

    def finish(self, row: Mapping[str, Any]) -> bool:
        """Commit the row of a run and drop its claim; False where the run has a row already."""
        run: Run = row["run"]
        names = _names(COLUMNS)
        marks = ", ".join("?" * len(COLUMNS))
        with self._transaction() as db:
            done = db.execute(
                f"INSERT OR IGNORE INTO runs ({names}) VALUES ({marks})", _values(run, row)
            )
            db.execute("DELETE FROM claims WHERE key = ?", (run.key,))
            if done.rowcount == 1 and row.get("plan"):
                content = zlib.compress(row["plan"].encode())
                db.execute("INSERT INTO plans VALUES (?, ?)", (run.key, content))
            return done.rowcount == 1

    def forget_failed(self, runs: Sequence[Run]) -> int:
        """Delete these runs' rows that failed, so that they are done again; how many there were."""
        with self._transaction() as db:
            failed = [
                (run.key,)
                for run in runs
                if db.execute(
                    f"SELECT 1 FROM runs WHERE key = ? AND ({FAILED})", (run.key,)
                ).fetchone()
            ]
            for table in ("runs", "plans", "executions"):
                db.executemany(f"DELETE FROM {table} WHERE key = ?", failed)
        return len(failed)

    def counts(self, runs: Sequence[Run]) -> dict[str, int]:
        """How many of these runs ended how."""
        wanted = {run.key for run in runs}
        with self._lock, self._errors():
            done = self._db.execute("SELECT key, harness FROM runs").fetchall()
        return dict(Counter(harness for key, harness in done if key in wanted))

    def rows(self, columns: Sequence[str] = tuple(COLUMNS)) -> list[dict[str, Any]]:
        """All rows in the order in which they finished; JSON columns are parsed."""
        names = _names(columns)
        with self._lock, self._errors():
            records = self._db.execute(f"SELECT {names} FROM runs ORDER BY rowid").fetchall()
        return self._checked([dict(zip(columns, values, strict=True)) for values in records])

    def _checked(
        self, records: Sequence[dict[str, Any]], table: str = "runs"
    ) -> list[dict[str, Any]]:
        """The rows of a table, parsed; raises InputError for what no run writes."""
        declared = COLUMNS if table == "runs" else EXECUTION
        for record in records:
            try:
                fault = row_fault(_parse_row(record), declared)
            except (ValueError, TypeError, RecursionError) as error:
                fault = str(error)
            if fault:
                raise self._broken(table, fault)
        return list(records)

    def plan(self, key: str) -> str | None:
        """The plan document of a network's run; None where there is none."""
        with self._lock, self._errors():
            record = self._db.execute("SELECT content FROM plans WHERE key = ?", (key,)).fetchone()
        try:
            return None if record is None else zlib.decompress(record[0]).decode()
        except (zlib.error, TypeError, UnicodeDecodeError) as error:
            raise self._broken("plans", error) from None

    def save_execution(self, row: Mapping[str, Any]) -> None:
        """Commit what was measured of a plan, in place of what was known before."""
        names = _names(EXECUTION)
        marks = ", ".join("?" * len(EXECUTION))
        with self._transaction() as db:
            db.execute(
                f"INSERT OR REPLACE INTO executions ({names}) VALUES ({marks})",
                [row.get(name) for name in EXECUTION],
            )

    def executions(self) -> list[dict[str, Any]]:
        """All executions of plans."""
        with self._lock, self._errors():
            records = self._db.execute(f"SELECT {_names(EXECUTION)} FROM executions").fetchall()
        rows = [dict(zip(EXECUTION, values, strict=True)) for values in records]
        return self._checked(rows, "executions")


def _names(columns: Iterable[str]) -> str:
    """Columns of a statement. In double quotes one that is missing would be taken for a text."""
    return ", ".join(f"[{name}]" for name in columns)


def _values(run: Run, row: Mapping[str, Any]) -> list[Any]:
    own = {
        "key": run.key,
        "instance": run.name,
        "kind": run.kind,
        "method": run.named,
        "solver": run.solver,
        "seed": run.seed,
        "time_limit_s": run.time_limit_s,
        "spec": run.to_json(),
    }
    merged = {**row, **own}
    return [
        json.dumps(merged[name]) if name in JSON_COLUMNS and name in merged else merged.get(name)
        for name in COLUMNS
    ]


def _parse_row(row: dict[str, Any]) -> dict[str, Any]:
    for name in JSON_COLUMNS:
        if row.get(name) is not None:
            row[name] = json.loads(row[name])
    return row


def _birth(pid: int) -> str:
    """When a process started, in the kernel's words; tells apart processes of one number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _alive(host: str, pid: int, born: str) -> bool:
    """Whether the process that made a claim still runs; yes for another host's."""
    if host != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _birth(pid) == born
