"""Files: what is read strictly, and what writing must not destroy. Each was once a bug."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from nptp_opt.cluster import cluster_from_json, load_cluster
from nptp_opt.errors import InputError, unknown_name
from nptp_opt.files import load_json, write_text


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[str] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "plan")
    reader.join(10)
    assert found == ["plan"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "not usable JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not usable JSON"),
        ('{"a": NaN}', "NaN is no JSON number"),
        ('{"a": 1,}', "line 1"),
    ],
)
def test_json_that_python_chokes_on_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"file\.json") as caught:
        load_json(path)
    assert words in str(caught.value)


def test_toml_with_a_number_too_long_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text("[network]\nmbit_per_s = " + "9" * 5000)
    with pytest.raises(InputError, match="not valid TOML"):
        load_cluster(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"network": {"kind": "switched"}}, "c: no devices: add at least one [[device]] entry"),
        (["x"], "c: must be an object (a table, in TOML)"),
        ({"schema": "nptp-opt/plan/1"}, "c: is a 'nptp-opt/plan/1' document, not a cluster"),
    ],
)
def test_messages_say_what_to_do_and_nothing_of_the_library(data: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        cluster_from_json(data, "c")
    assert str(caught.value) == message


@pytest.mark.parametrize("field", ["gflops", "up_mbit_per_s", "latency_ms"])
@pytest.mark.parametrize("value", [1e-320, 1e300])
def test_numbers_that_make_costs_infinite_are_refused(field: str, value: float) -> None:
    device = {"name": "a", "gflops": 1.0, "up_mbit_per_s": 1.0, "down_mbit_per_s": 1.0}
    link: dict[str, object] = {"kind": "switched"}
    (link if field == "latency_ms" else device)[field] = value
    if field == "latency_ms" and value < 1:
        assert cluster_from_json({"network": link, "device": [device]}).network.latency_s < 1e-300
        return
    with pytest.raises(InputError, match=field):
        cluster_from_json({"network": link, "device": [device]})


def test_of_many_known_names_the_nearest_are_listed() -> None:
    known = [f"model{k}" for k in range(100)] + ["vgg16"]
    message = str(unknown_name("model", "vgg166", known))
    assert "Did you mean 'vgg16'?" in message
    assert len(message) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (f'{{"a": {2**53 + 1}}}', "the whole number .* is above 9007199254740992"),
        (f'{{"a": -{"9" * 400}}}', r"the whole number -9+\.\.\. is above"),
    ],
)
def test_json_that_readers_would_take_differently_is_refused(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"file\.json: not usable JSON: {words}"):
        load_json(path)
