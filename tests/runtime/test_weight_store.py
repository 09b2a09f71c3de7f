"""Weights that workers keep: by hash, within a limit, whoever else writes, whatever was cut off."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nptp_opt.errors import InputError
from nptp_opt.plan.document import plan_to_json
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.launcher.shipment import Shipment, Shipped, told
from nptp_opt.runtime.worker.material import Sent
from nptp_opt.runtime.worker.weight_store import LOCK, UNFINISHED, WeightStore, default_folder
from tests.runtime.plans import five_devices, hand_plan, model_of, tee

ONE, TWO, THREE = (bytes([k]) * 1000 for k in range(3))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK}


def _keep(store: WeightStore, *contents: bytes) -> None:
    for content in contents:
        assert bytes(store.keep(_digest(content), content)) == content


def test_what_is_kept_is_found_by_another_store(tmp_path: Path) -> None:
    """As a file that `sha256sum` knows by its name; what is written to it never reaches it."""
    _keep(WeightStore(tmp_path / "w", 4000), ONE)
    assert (tmp_path / "w").stat().st_mode & 0o777 == 0o700
    found = WeightStore(tmp_path / "w", 4000).find(_digest(ONE))
    assert found is not None and bytes(found) == ONE
    np.frombuffer(found, np.uint8)[:] = 7
    assert (tmp_path / "w" / _digest(ONE)).read_bytes() == ONE
    assert WeightStore(tmp_path / "w", 4000).find(_digest(TWO)) is None


def test_a_damaged_file_is_removed_and_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = WeightStore(tmp_path, 4000)
    _keep(store, ONE)
    (tmp_path / _digest(ONE)).write_bytes(TWO)
    with caplog.at_level(logging.WARNING):
        assert store.find(_digest(ONE)) is None
    assert "is damaged" in caplog.text and _names(tmp_path) == set()
    with pytest.raises(InputError, match="arrived damaged"):
        store.keep(_digest(ONE), TWO)


def test_the_limit_holds_and_the_oldest_goes_first(tmp_path: Path) -> None:
    store = WeightStore(tmp_path, 2500)
    _keep(store, ONE, TWO)
    os.utime(tmp_path / _digest(ONE), (2, 2))
    os.utime(tmp_path / _digest(TWO), (1, 1))
    store.begin_job()
    _keep(store, THREE)
    assert _names(tmp_path) == {_digest(ONE), _digest(THREE)}
    WeightStore(tmp_path, 1500).clean()
    assert _names(tmp_path) == {_digest(THREE)}


def test_a_job_over_the_limit_keeps_the_same_part_each_time(tmp_path: Path) -> None:
    """If one half made room for the other, the next job would find neither."""
    store, job = WeightStore(tmp_path, 2500), (ONE, TWO, THREE)
    for expected in (0, 2, 2):
        store.begin_job()
        found = [store.find(_digest(content)) is not None for content in job]
        assert sum(found) == expected
        _keep(store, *(content for content, there in zip(job, found, strict=True) if not there))
    assert _names(tmp_path) == {_digest(ONE), _digest(TWO)}


def test_what_a_killed_writer_left_is_removed_by_the_next_start(tmp_path: Path) -> None:
    """Bug: plan and weights of a worker that was killed stayed in the temporary folder. Now a plan
    is in no file, and a tensor that is half written goes at the next start."""
    _keep(WeightStore(tmp_path, 4000), ONE)
    (tmp_path / UNFINISHED).write_bytes(b"half")
    WeightStore(tmp_path, 4000).clean()
    assert _names(tmp_path) == {_digest(ONE)}


def test_two_workers_of_one_folder_at_once(tmp_path: Path) -> None:
    """Both write the same tensors and more than there is room for: none is ever half there."""
    contents = [bytes([k]) * 5000 for k in range(40)]
    wrong: list[Any] = []

    def work(order: list[bytes]) -> None:
        store = WeightStore(tmp_path, 60_000)
        try:
            for content in order:
                store.begin_job()
                found = store.find(_digest(content))
                assert found is None or bytes(found) == content
                _keep(store, content)
        except BaseException as error:  # noqa: BLE001 - asserted below
            wrong.append(error)

    orders = [contents, contents[::-1], contents[20:] + contents[:20]]
    threads = [threading.Thread(target=work, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(_names(tmp_path)) == 12


def test_a_folder_that_cannot_be_used_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker works all the same."""
    (tmp_path / "file").touch()
    store = WeightStore(tmp_path / "file" / "weights", 4000)
    with caplog.at_level(logging.WARNING):
        _keep(store, ONE, TWO)
    assert len(caplog.records) == 1 and "no weights are kept in" in caplog.text
    _keep(WeightStore(tmp_path / "none", 0), ONE)
    assert not (tmp_path / "none").exists()


def test_the_folder_is_this_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/nptp-opt/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_folder() == Path("/home/me/.cache/nptp-opt/weights")


def test_a_second_job_with_the_same_weights_asks_for_none(tmp_path: Path) -> None:
    """Another plan of the model, too; arrays are the model's, an empty one among them."""
    model = model_of("chain")
    shipment = Shipment(model)
    asked: list[int] = []

    def fetch(missing: Any) -> Any:
        asked.append(len(missing))
        return [(digest, bytearray(shipment.content(digest))) for digest in missing]

    for partition in (tee, tee):
        plan = hand_plan(model, "chain", partition, five_devices())
        program = device_program(plan, 1)
        entries = shipment.entries(program.weight_keys)
        content = plan_to_json(plan)
        sent = Sent(json.dumps(content).encode(), entries, WeightStore(tmp_path, 2**20), fetch)
        assert sent.plan(content["hash"]).steps == plan.steps
        arrays = sent.weights(program)
        assert arrays.keys() == program.weight_keys
        for key, array in arrays.items():
            np.testing.assert_array_equal(array, model.weights()[key].numpy())
    assert asked[0] > 0 and asked[1] == 0
    with pytest.raises(InputError, match="is not the plan's that is to run"):
        sent.plan("0" * 64)


def test_who_was_sent_how_much_is_told() -> None:
    assert told({"a": Shipped(2_000_000, 0), "b": Shipped(0, 500_000)}) == (
        "weights: 2 MB sent (a 2), 0.5 MB kept by the workers already"
    )
    assert (
        told({"a": Shipped(0, 5_000_000)}) == "weights: 0 MB sent, 5 MB kept by the workers already"
    )


def test_what_is_not_ours_is_never_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: `worker --cache-mib 0` emptied the folder that it was started in, and `--cache FOLDER`
    removed whatever lay there beside weights."""
    monkeypatch.chdir(tmp_path)
    Path("my.secret").write_text("mine")
    WeightStore(Path(), 0).clean()
    assert [path.name for path in tmp_path.iterdir()] == ["my.secret"]
    _keep(WeightStore(tmp_path, 1000), ONE)
    store = WeightStore(tmp_path, 1)
    store.clean()
    assert store.find(_digest(ONE)) is None
    assert Path("my.secret").read_text() == "mine"
