"""The results file: each run once, whatever happens to the batch, the disk or the file."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.comparison.runs import Run, run_from_json
from nptp_opt.comparison.store import Store
from nptp_opt.errors import InputError
from tests.comparison.runs import run


def finished(which: Run, **changes: Any) -> dict[str, Any]:
    return {"run": which, "harness": "finished", "status": "optimal", "value_s": 1.0, **changes}


def test_the_key_depends_on_every_field_and_survives_json() -> None:
    base = run("column-dp")
    others = [
        run("column-dp", seed=1),
        run("column-dp", time_limit_s=1.0),
        run("column-dp", memory_mib=1.0),
        run("strip"),
        run("column-dp", solver="highs"),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6
    assert run_from_json(base.to_json()).key == base.key


def test_a_run_is_stored_once_and_no_longer_pending(tmp_path: Path) -> None:
    runs = [run("column-dp", seed=seed) for seed in range(3)]
    tiles = [{"device": "a", "y0": 0, "y1": 6, "x0": 0, "x1": 6}]
    with Store(tmp_path / "r.sqlite") as store:
        assert store.claim(runs[0])
        assert store.finish(finished(runs[0], tiles=tiles, trace=[[1, 2, 3]]))
        assert not store.finish(finished(runs[0], value_s=2.0))
        assert not store.claim(runs[0])
        assert store.pending(runs) == runs[1:]
    with Store(tmp_path / "r.sqlite", create=False) as store:
        (row,) = store.rows()
        assert row["value_s"] == 1.0 and row["tiles"] == tiles
        assert row["spec"]["method"] == "column-dp"


def test_a_claim_holds_until_it_is_released_or_its_process_is_gone(tmp_path: Path) -> None:
    path, which = tmp_path / "r.sqlite", run("column-dp")
    with Store(path) as one, Store(path) as two:
        assert one.claim(which)
        assert not two.claim(which)
        one.release([which])
        assert two.claim(which)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE claims SET pid = ?, born = 'x'", (2**22 + 1,))
    with Store(path) as three:
        assert three.claim(which)


def test_only_failed_runs_are_forgotten(tmp_path: Path) -> None:
    runs = [run("column-dp", seed=seed) for seed in range(4)]
    with Store(tmp_path / "r.sqlite") as store:
        store.finish(finished(runs[0]))
        store.finish(finished(runs[1], harness="crash", status=None))
        store.finish(finished(runs[2], fault="covered twice"))
        store.finish(finished(runs[3], status="no-solution", value_s=None))
        assert store.forget_failed(runs[:2]) == 1
        assert store.forget_failed(runs) == 1
        assert store.pending(runs) == runs[1:3]


def test_a_full_disk_is_a_clear_error_and_keeps_what_was_stored(tmp_path: Path) -> None:
    path, stored = tmp_path / "r.sqlite", 0
    with Store(path) as store:
        store._db.execute("PRAGMA max_page_count = 12")
        with pytest.raises(InputError, match=r"full.*is kept"):
            for seed in range(1000):
                store.finish(finished(run("column-dp", seed=seed), message="x" * 500))
                stored += 1
    with Store(path) as store:
        assert len(store.rows()) == stored > 0


def test_a_read_only_file_is_a_clear_error_and_keeps_what_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    with Store(path) as store:
        store.finish(finished(run("column-dp")))
        store._db.execute("PRAGMA query_only = 1")
        with pytest.raises(InputError, match=r"readonly.*is kept"):
            store.finish(finished(run("strip")))
        assert len(store.rows()) == 1


def test_a_file_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.sqlite"
    Store(path).__exit__()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    for create in (True, False):
        with pytest.raises(InputError, match=r"version 99.*knows version 3"):
            Store(path, create=create)


@pytest.mark.parametrize("content", [b"no database at all, but long enough" * 9, b""])
def test_a_file_that_is_no_results_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.sqlite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"r\.sqlite"):
        Store(path, create=False)


def test_a_missing_file_or_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such results file"):
        Store(tmp_path / "r.sqlite", create=False)
    with pytest.raises(InputError, match="unable to open"):
        Store(tmp_path / "no" / "r.sqlite")
