"""Cluster files: what is read, and the error for everything that is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nptp_opt.cluster import cluster_from_json, load_cluster
from nptp_opt.errors import InputError
from tests.builders import make_cluster

GOOD = """
name = "two"
[network]
kind = "switched"
latency_ms = 0.5
sink = "b"
[[device]]
name = "a"
gflops = 10
up_mbit_per_s = 100
down_mbit_per_s = 50
memory_mib = 2
[[device]]
name = "b"
gflops = 2.5
overhead_ms = 0.1
up_mbit_per_s = 100
down_mbit_per_s = 100
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    return path


def test_units_become_si(tmp_path: Path) -> None:
    cluster = load_cluster(written(tmp_path, GOOD))
    first, second = cluster.devices
    assert first.flop_per_s == 10e9
    assert first.down_bytes_per_s == 6.25e6
    assert first.memory_bytes == 2 * 2**20
    assert second.overhead_s == pytest.approx(1e-4)
    assert second.memory_bytes == float("inf")
    assert cluster.network.latency_s == pytest.approx(5e-4)
    assert (cluster.source, cluster.sink) == (0, 1)


def test_json_round_trip(tmp_path: Path) -> None:
    cluster = load_cluster(written(tmp_path, GOOD))
    assert cluster_from_json(cluster.to_json()) == cluster


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "switched"', 'kind = "mesh"', "network.kind"),
        (
            "gflops = 10",
            "gflop = 10",
            "device.0 ('a'): unknown key 'gflop'. Did you mean 'gflops'?",
        ),
        ("gflops = 10", 'profil = "x.json"', "'profil'. Did you mean 'profile'?"),
        ("[[device]]", "[[devices]]", "unknown key 'devices'. Did you mean 'device'?"),
        ("[network]", "[net]", "unknown key 'net'. Did you mean 'network'?"),
        ("gflops = 10\n", "", "device.0 ('a'): needs gflops, or profile = \"FILE\""),
        ("gflops = 10", "gflops = 0", "device.0 ('a').gflops"),
        ("gflops = 10", "gflops = -3", "device.0 ('a').gflops"),
        ("gflops = 10", "gflops = nan", "device.0 ('a').gflops"),
        ("gflops = 10", "gflops = inf", "device.0 ('a').gflops"),
        ("gflops = 10", 'gflops = "fast"', "device.0 ('a').gflops"),
        ("[network]", '[network]\nstand_ins = ["z"]', "network.stand_ins: 'z' is no device"),
        ("[network]", '[network]\nstand_ins = "a"', "network.stand_ins: must be a list"),
        ("gflops = 10", "gflops = 10\nspeed = 3", "device.0 ('a'): unknown key 'speed'"),
        ("up_mbit_per_s = 100\n", "up_mbit_per_s = 0\n", "device.0 ('a').up_mbit_per_s"),
        ("latency_ms = 0.5", "latency_ms = -1", "network.latency_ms"),
        ('name = "b"', 'name = "a"', "two devices are named 'a'"),
        ('sink = "b"', 'sink = "c"', "network.sink: unknown device 'c'. Known: a, b."),
        ("down_mbit_per_s = 50\n", "", "'a' needs up_mbit_per_s and down_mbit_per_s"),
        ("[network]", "[network", "line 3"),
    ],
)
def test_bad_files_name_the_file_and_the_field(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in GOOD
    with pytest.raises(InputError, match=r"cluster\.toml") as caught:
        load_cluster(written(tmp_path, GOOD.replace(old, new, 1)))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_table_that_is_no_list(tmp_path: Path) -> None:
    text = '[network]\nkind = "shared"\nmbit_per_s = 9\n[device]\nname = "a"\ngflops = 1\n'
    with pytest.raises(InputError, match=r"device: must be a list of tables: \[\[device\]\]"):
        load_cluster(written(tmp_path, text))


def test_no_devices() -> None:
    with pytest.raises(InputError, match="no devices"):
        cluster_from_json({"network": {"kind": "switched"}, "device": []})


def test_a_shared_network_needs_its_rate() -> None:
    with pytest.raises(InputError, match=r"needs network\.mbit_per_s"):
        cluster_from_json({"network": {"kind": "shared"}, "device": [{"name": "a", "gflops": 1}]})


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        load_cluster(tmp_path / "nowhere.toml")


def test_a_copy_of_a_cluster_forgets_what_was_computed_for_the_original() -> None:
    """pydantic copies the values of cached properties: ``kinds`` named devices that had gone."""
    cluster = make_cluster((1.0, 1.0, 2.0))
    assert len(cluster.kinds) == 3
    assert len(cluster.model_copy(update={"devices": cluster.devices[:2]}).kinds) == 2
