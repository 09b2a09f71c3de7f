"""Clusters, profiles, specs and instances that are changed or garbled: read, or refused in words.

What is read is used: planned on, crossed into runs, solved.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nptp_opt.cluster import Cluster, load_cluster
from nptp_opt.cluster.profiles import PROFILE_SCHEMA, load_profile
from nptp_opt.comparison.spec import load_spec, runs_of
from nptp_opt.instances.library import open_instance
from nptp_opt.instances.networks import NetworkProblem, network_problem_to_json
from nptp_opt.instances.reader import layer_problem_to_json
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.document import plan_from_json, plan_to_json
from nptp_opt.planner import PlanOptions, plan_network
from tests.builders import conv_chain, make_cluster, make_problem
from tests.fuzz.documents import (
    budget,
    ends_with_words,
    garbled,
    mutants,
    read_or_refused,
    toml_of,
)

SHAPE = (1, 2, 12, 12)

LAYER_SPEED = {"layer": "conv2d", "gflops": 2.0, "overhead_ms": 0.1}

CLUSTER: dict[str, Any] = {
    "name": "three",
    "network": {
        "kind": "switched", "latency_ms": 0.5, "message_ms": 0.1, "source": "a", "sink": "b",
        "stand_ins": ["c"], "transfer_dtype": "float16",
    },
    "device": [
        {"name": "a", "profile": "a.json", "up_mbit_per_s": 100.0, "down_mbit_per_s": 50},
        {"name": "b", "gflops": 2, "overhead_ms": 0.1, "memory_mib": 2048, "up_mbit_per_s": 10.0,
         "down_mbit_per_s": 10.0, "watts": 3.5, "joules_per_byte": 1e-8, "address": "192.0.2.1"},
        {"name": "c", "gflops": 0.5, "up_mbit_per_s": 10.0, "down_mbit_per_s": 10.0,
         "layers": [LAYER_SPEED], "executor": "torch", "encode_mb_per_s": 900.0},
    ],
}  # fmt: skip

PROFILE: dict[str, Any] = {
    "schema": PROFILE_SCHEMA, "model": "chain", "threads": 2, "executor": "torch", "gflops": 3.0,
    "overhead_ms": 0.2, "layers": [LAYER_SPEED | {"residual": 0.01, "points": 4}],
    "link": {"latency_ms": 0.4, "message_ms": 0.1, "up_mbit_per_s": 90.0, "down_mbit_per_s": 80.0},
    "encode_mb_per_s": 800.0, "decode_mb_per_s": 400.0, "provenance": {"tool": "0"},
}  # fmt: skip

SPEC: dict[str, Any] = {
    "instances": ["tiny.json"], "tags": [], "formulations": ["column-dp", "cover"],
    "planners": ["nptp", "single"], "solvers": ["default"], "objectives": ["latency", "bytes"],
    "transfer_dtypes": ["float16"], "latency_limit_ms": 50.0, "seeds": [0, 1],
    "time_limits_s": [1.0, 2.0], "gap": 1e-6, "threads": 1, "memory_mib": 512.0, "grace_s": 5.0,
    "plugins": [],
}  # fmt: skip

LAYER = layer_problem_to_json(make_problem(make_cluster((2.0, 1.0), memory_mib={0: 8.0})))

NETWORK = network_problem_to_json(
    NetworkProblem("net", ModelRef("tests.models:small_cnn", (1, 3, 32, 32)), make_cluster())
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text(json.dumps(PROFILE))
    (tmp_path / "tiny.json").write_text(json.dumps(LAYER))
    return tmp_path


def planned_on(cluster: Cluster) -> None:
    """Plans of it are right and finite, and read back as they are."""
    network = conv_chain(SHAPE, [{}, {"stride": 2}])
    plan = plan_network(ModelRef("chain", SHAPE), network, cluster, PlanOptions("column-dp"))
    assert 0 <= (plan.bound_s or 0.0) <= plan.latency_s < math.inf
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan), allow_nan=False))) == plan


def read_cluster_of(folder: Path, cluster: bytes, profile: bytes, suffix: str) -> None:
    path = folder / f"cluster{suffix}"
    path.write_bytes(cluster)
    (folder / "a.json").write_bytes(profile)
    read_or_refused(lambda: load_profile(folder / "a.json"))
    found = read_or_refused(lambda: load_cluster(path))
    if found is not None:
        read_or_refused(lambda: planned_on(found))


def test_the_documents_that_are_changed_are_read_as_they_are(folder: Path) -> None:
    (folder / "cluster.toml").write_text(toml_of(CLUSTER))
    (folder / "spec.toml").write_text(toml_of(_alone("planners")))
    assert len(load_cluster(folder / "cluster.toml").devices) == 3
    assert load_spec(folder / "spec.toml").seeds == (0, 1)


@budget(60)
@given(data=st.data())
def test_any_cluster_is_planned_on_or_refused(data: st.DataObject, folder: Path) -> None:
    content, profile = data.draw(mutants(CLUSTER)), json.dumps(PROFILE).encode()
    suffix = data.draw(st.sampled_from([".toml", ".json"]))
    text = toml_of(content) if suffix == ".toml" else json.dumps(content)
    read_cluster_of(folder, text.encode(), profile, suffix)


@budget(30)
@given(data=st.data())
def test_a_garbled_cluster_is_planned_on_or_refused(data: st.DataObject, folder: Path) -> None:
    whole = (toml_of(CLUSTER).encode(), json.dumps(PROFILE).encode())
    broken = data.draw(st.sampled_from([0, 1]))
    files = [data.draw(garbled(f)) if k == broken else f for k, f in enumerate(whole)]
    read_cluster_of(folder, files[0], files[1], ".toml")


@budget(40)
@given(data=st.data())
def test_a_cluster_with_any_profile_is_planned_on_or_refused(
    data: st.DataObject, folder: Path
) -> None:
    profile = json.dumps(data.draw(mutants(PROFILE))).encode()
    read_cluster_of(folder, toml_of(CLUSTER).encode(), profile, ".toml")


def _alone(kind: str) -> dict[str, Any]:
    """The spec of layers or of networks alone: the instance is a layer."""
    gone = {"objectives", "transfer_dtypes", "latency_limit_ms"} if kind == "planners" else set()
    return {key: value for key, value in SPEC.items() if key not in gone | {kind}}


@budget(60)
@given(data=st.data())
def test_any_spec_stands_for_runs_or_is_refused(
    data: st.DataObject, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    path = folder / "spec.toml"
    base = data.draw(st.sampled_from([SPEC, _alone("planners"), _alone("formulations")]))
    if data.draw(st.booleans()):
        path.write_text(toml_of(data.draw(mutants(base))))
    else:
        path.write_bytes(data.draw(garbled(toml_of(base).encode())))
    spec = read_or_refused(lambda: load_spec(path))
    if spec is not None:
        read_or_refused(lambda: runs_of(spec))


def solved(path: Path) -> None:
    """A layer instance is solved; a network's is opened."""
    problem = open_instance(str(path))
    if not isinstance(problem, NetworkProblem):
        ends_with_words(
            ["solve-layer", path, "--formulation", "column-dp", "--time-limit", "1"], (0, 2, 3, 4)
        )


@pytest.mark.parametrize("document", [LAYER, NETWORK], ids=["layer", "network"])
@pytest.mark.parametrize("changed", [mutants, lambda d: garbled(json.dumps(d).encode())])
@budget(30)
@given(data=st.data())
def test_any_instance_is_opened_or_refused(
    document: dict[str, Any],
    changed: Callable[[Any], st.SearchStrategy[Any]],
    data: st.DataObject,
    folder: Path,
) -> None:
    content = data.draw(changed(document))
    path = folder / "instance.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    read_or_refused(lambda: solved(path))


@pytest.mark.parametrize("name", ["cluster.toml", "cluster.json", "spec.toml", "instance.json"])
@pytest.mark.parametrize("content", [b"", b"\0" * 9, b"[" * 100_000, b"a = " + b"[" * 100_000])
def test_nests_and_nothing_are_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    read: Callable[[Path], Any] = {"cluster": load_cluster, "spec": load_spec}.get(
        name.partition(".")[0], lambda path: open_instance(str(path))
    )
    assert read_or_refused(lambda: read(folder / name)) is None
