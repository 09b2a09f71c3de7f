"""Results files whose bytes, tables or cells are changed: a report or a line, and no half page."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.comparison.runs import Run
from nptp_opt.comparison.store import COLUMNS, EXECUTION, Store
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import plan_to_json
from nptp_opt.planner import PlanOptions, plan_network
from tests.builders import conv_chain, make_cluster
from tests.comparison.runs import execute_here, row, run
from tests.fuzz.documents import budget, ends_with_words, garbled, read_or_refused

SHAPE = (1, 2, 12, 12)

CELLS: list[object] = [
    None,
    "",
    "x",
    b"\xff\x00",
    -1,
    2**63 - 1,
    1e308,
    "[1",
    "{}",
    "[[1]]",
    "null",
]

Change = Callable[[sqlite3.Connection], object]
"""What is done to a results file."""

SCHEMA_CHANGES: dict[str, Change] = {
    "of an earlier version": lambda db: db.execute("PRAGMA user_version = 2"),
    "of a later version": lambda db: db.execute("PRAGMA user_version = 4"),
    "of another application": lambda db: db.execute("PRAGMA application_id = 1"),
    "without runs": lambda db: db.execute("DROP TABLE runs"),
    "without claims": lambda db: db.execute("DROP TABLE claims"),
    "without plans": lambda db: db.execute("DROP TABLE plans"),
    "without executions": lambda db: db.execute("DROP TABLE executions"),
    "of no rows": lambda db: db.execute("DELETE FROM runs"),
    "without a column": lambda db: db.execute("ALTER TABLE runs DROP COLUMN wall_s"),
    "of views": lambda db: db.executescript(
        "ALTER TABLE runs RENAME TO other; CREATE VIEW runs AS SELECT * FROM other"
    ),
}

UNREAD = {"without claims", "without plans", "of views"}
"""What a report does without."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two layers' runs and one network's, whose plan has been executed."""
    path = tmp_path_factory.mktemp("made") / "results.sqlite"
    with Store(path) as store:
        for method in ("column-dp", "strip"):
            made = run(method, plugins=())
            store.finish({"run": made, **execute_here(made)})
        made = Run(instance={"kind": "network", "name": "chain"}, method="single")
        store.finish(row(run=made, kind="network", plan=a_plan()))
        store.save_execution(
            {"key": made.key, "how": "local", "measured_s": 0.1, "fastest_s": 0.1,
             "slowest_s": 0.2, "repeats": 3, "started_at": 0.0}
        )  # fmt: skip
    return path


def a_plan() -> str:
    network = conv_chain(SHAPE, [{}])
    plan = plan_network(ModelRef("chain", SHAPE), network, make_cluster(), PlanOptions("single"))
    return json.dumps(plan_to_json(plan))


def reported(folder: Path, content: bytes) -> int:
    """Status of ``report`` on such a file, which it leaves as it is, beside whole pages or none."""
    path = folder / "results.sqlite"
    path.write_bytes(content)
    outputs = [folder / name for name in ("page.html", "runs.csv", "tables.md")]
    for each in outputs:
        each.unlink(missing_ok=True)
    words = zip(("--html", "--csv", "--markdown"), outputs, strict=True)
    status = ends_with_words(
        ["report", path, "--json", *(word for pair in words for word in pair)], (0, 2)
    )
    assert path.read_bytes() == content
    left = {each.name for each in folder.iterdir()}
    assert left <= {path.name, *(each.name for each in outputs if status == 0)}
    return status


def changed_by(content: bytes, folder: Path, change: Change) -> bytes:
    path = folder / "changing"
    path.write_bytes(content)
    with closing(sqlite3.connect(path)) as db:
        change(db)
        db.commit()
    try:
        return path.read_bytes()
    finally:
        path.unlink()


def test_the_file_that_is_changed_is_reported(results: Path, tmp_path: Path) -> None:
    assert reported(tmp_path, results.read_bytes()) == 0


@pytest.mark.parametrize("change", SCHEMA_CHANGES)
def test_a_file_of_another_form_is_refused_or_reported(
    results: Path, change: str, tmp_path: Path
) -> None:
    content = changed_by(results.read_bytes(), tmp_path, SCHEMA_CHANGES[change])
    assert reported(tmp_path, content) == (0 if change in UNREAD else 2)


@budget(40)
@given(data=st.data())
def test_a_garbled_file_is_refused_or_reported(
    data: st.DataObject, results: Path, tmp_path: Path
) -> None:
    reported(tmp_path, data.draw(garbled(results.read_bytes())))


@budget(60)
@given(data=st.data())
def test_a_file_with_any_cell_is_refused_or_reported(
    data: st.DataObject, results: Path, tmp_path: Path
) -> None:
    table, columns = data.draw(st.sampled_from([("runs", COLUMNS), ("executions", EXECUTION)]))
    name, value = data.draw(st.sampled_from(sorted(columns))), data.draw(st.sampled_from(CELLS))
    where = data.draw(st.sampled_from(["", "WHERE rowid = 1", "WHERE rowid = 3"]))
    text = f"""UPDATE OR REPLACE {table} SET "{name}" = ? {where}"""
    try:
        content = changed_by(results.read_bytes(), tmp_path, lambda db: db.execute(text, (value,)))
    except sqlite3.IntegrityError:  # a column that takes no such value
        return
    reported(tmp_path, content)


@pytest.mark.parametrize("content", ["no blob", b"no zlib", zlib.compress(b"\xff"), None])
def test_a_stored_plan_that_cannot_be_read_is_refused(
    content: object, results: Path, tmp_path: Path
) -> None:
    text = "UPDATE plans SET content = ?" if content is not None else "DELETE FROM plans"
    values = () if content is None else (content,)
    path = tmp_path / "results.sqlite"
    path.write_bytes(
        changed_by(results.read_bytes(), tmp_path, lambda db: db.execute(text, values))
    )
    with Store(path, create=False) as store:
        key = store.rows(("key",))[-1]["key"]
        assert read_or_refused(lambda: store.plan(key)) is None
