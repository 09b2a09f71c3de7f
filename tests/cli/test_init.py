"""``init``: a cluster file from options, from answers, and from what boards measure."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.cluster import load_cluster
from nptp_opt.cluster.profiles import load_profile
from nptp_opt.commands import init as command
from tests.cli.test_commands import MODEL, call, called_json
from tests.runtime.forked import Forked, Template

TWO = ("--device", "pi-0,gflops=10", "--device", "name=pi-1,gflops=5.5,memory_mib=512")


def test_options_make_a_cluster_file_that_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "home.toml"
    found = called_json("init", "-o", path, "--mbit-per-s", 100, "--latency-ms", 0.5, *TWO)
    cluster = load_cluster(path)
    assert (cluster.name, cluster.network.kind, cluster.network.latency_ms) == (
        "home", "switched", 0.5
    )  # fmt: skip
    assert [(d.name, d.gflops, d.memory_mib, d.up_mbit_per_s) for d in cluster.devices] == [
        ("pi-0", 10, None, 100), ("pi-1", 5.5, 512, 100)
    ]  # fmt: skip
    assert [device["name"] for device in found["devices"]] == ["pi-0", "pi-1"]
    assert call("init", "-o", tmp_path / "w.toml", "--network", "shared", "--mbit-per-s", 50,
                *TWO).exit_code == 0  # fmt: skip
    shared = load_cluster(tmp_path / "w.toml")
    assert shared.network.mbit_per_s == 50 and shared.devices[0].up_mbit_per_s is None


def test_a_file_that_is_there_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("mine")
    result = call("init", "-o", path, "--mbit-per-s", 100, *TWO)
    assert result.exit_code == 2 and "--force" in result.stderr and path.read_text() == "mine"
    assert call("init", "-o", path, "--mbit-per-s", 100, *TWO, "--force").exit_code == 0
    assert len(load_cluster(path).devices) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--device", "a,gflop=1"], "device.0 ('a'): unknown key 'gflop'. Did you mean 'gflops'?"),
        (["--device", "a,gflops=fast"], "gflops must be a number, got 'fast'"),
        (["--device", "a,gflops=1,gflops=2"], "each key once"),
        (["--device", "gflops=1"], "needs a name"),
        (["--device", "a,gflops=1"], "needs up_mbit_per_s and down_mbit_per_s"),
        (["--device", "a", "--mbit-per-s", "1"], "device.0 ('a'): needs gflops, or profile"),
        ([], "add --device for each"),
        (["--device", "a", "--hosts", "127.0.0.1:5000"], "--hosts needs --secret-file"),
        (["--device", "a", "--model", "vgg16"], "--model is for measuring: add --hosts"),
    ],
)
def test_what_makes_no_cluster_is_told_and_nothing_is_written(
    tmp_path: Path, args: list[str], words: str
) -> None:
    result = call("init", "-o", tmp_path / "c.toml", *args)
    assert result.exit_code == 2 and words in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_it_asks_where_no_device_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kind, rate, latency; then name, speed and memory of one device after the other."""
    monkeypatch.setattr(command, "somebody_answers", lambda: True)
    path = tmp_path / "c.toml"
    typed = ["shared", "fast", "50", "", "cam", "8", "", "y", "hub", "20", "2048", "n"]
    result = CliRunner().invoke(main, ["init", "-o", str(path)], input="\n".join(typed) + "\n")
    assert result.exit_code == 0, result.stderr
    assert "'fast' is not a valid float" in result.stderr and "Name of device 2" in result.stderr
    cluster = load_cluster(path)
    assert (cluster.network.kind, cluster.network.mbit_per_s) == ("shared", 50)
    assert [(d.name, d.gflops, d.memory_mib) for d in cluster.devices] == [
        ("cam", 8, None), ("hub", 20, 2048)
    ]  # fmt: skip


def test_answers_that_end_are_an_interrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "somebody_answers", lambda: True)
    result = CliRunner().invoke(main, ["init", "-o", str(tmp_path / "c.toml")], input="shared\n")
    assert result.exit_code == 130 and list(tmp_path.iterdir()) == []


def test_boards_measure_themselves_and_their_links(tmp_path: Path, template: Template) -> None:
    """Workers that have no model: the launcher sends its network; one command makes the file."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        hosts = f"127.0.0.1:{sock.getsockname()[1]}"
    secret, path = tmp_path / "secret", tmp_path / "made" / "c.toml"
    secret.write_text("a secret of this test alone")
    path.parent.mkdir()
    given = []
    for k, name in enumerate(("pi 0", "pi-1")):
        words = ["--name", name, "--connect", f"tcp:{hosts}", "--secret-file", str(secret)]
        log = tmp_path / f"{k}.log"
        log.touch()
        Forked(template, argv=words, log=str(log), cwd=str(path.parent))
        given += ["--device", f"{name},address=127.0.0.{k + 2},memory_mib=512"]
    found = called_json("init", "-o", path, "--hosts", hosts, "--secret-file", secret, "--model",
                        MODEL, "--input", "1x3x20x24", "--repeats", 1, "--executor", "torch",
                        "--network", "switched", *given)  # fmt: skip
    hub, other = (load_profile(path.parent / f"{name}.profile.json") for name in ("pi-0", "pi-1"))
    assert hub.link is not None and other.link is not None and len(other.layers) > 3
    assert hub.link.up_mbit_per_s == other.link.down_mbit_per_s
    assert [pair["devices"] for pair in found["links"]] == [["pi 0", "pi-1"]]
    cluster = load_cluster(path)
    assert cluster.network.latency_ms == other.link.latency_ms == found["latency_ms"]
    assert [(d.name, d.gflops, d.memory_mib) for d in cluster.devices] == [
        ("pi 0", hub.gflops, 512), ("pi-1", other.gflops, 512)
    ]  # fmt: skip
    assert cluster.devices[0].up_mbit_per_s == hub.link.up_mbit_per_s
    plan = tmp_path / "plan.json"
    planned = call("solve", MODEL, "-c", path, "-o", plan, "--input", "1x3x20x24", "--planner",
                   "strip-equal", "--no-bound", "--trust-import")  # fmt: skip
    assert planned.exit_code == 0
    again = call("init", "-o", path.with_name("d.toml"), "--hosts", hosts, "--secret-file", secret,
                 "--model", MODEL, *given)  # fmt: skip
    assert again.exit_code == 2 and "pi-0.profile.json: is there already" in again.stderr
    assert json.loads(plan.read_text())["cluster"]["network"]["message_ms"] == (
        other.link.message_ms
    )
