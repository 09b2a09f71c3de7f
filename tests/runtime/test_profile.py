"""Profiles: the fit by hand, the way into a cluster file, costs that follow, and the link."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.cluster import Cluster, cluster_from_json, load_cluster
from nptp_opt.cluster.profiles import CODEC_RATES, Link, Profile, load_profile, write_profile
from nptp_opt.cost import layer_key, segment_compute_s
from nptp_opt.errors import InputError
from nptp_opt.network.ir import Density
from nptp_opt.network.load import load_model
from nptp_opt.planner.candidates.layerwise import layer_problem
from nptp_opt.runtime.device_program import device_program
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.pool import WorkerPool
from nptp_opt.runtime.profiling.calibrate import calibrate_cluster
from nptp_opt.runtime.profiling.fit import fit_layer
from nptp_opt.runtime.profiling.layers import measure_codec
from nptp_opt.runtime.profiling.link import measure_link, serve_link
from nptp_opt.runtime.profiling.profile import (
    fit_profile,
    measure_layers,
    misfits,
)
from nptp_opt.runtime.trace import Span
from nptp_opt.runtime.transport.control import ChannelError, RefusedError, connect
from nptp_opt.runtime.transport.handshake import Keys, join, read_keys
from tests.builders import make_cluster
from tests.executors import EACH
from tests.runtime.plans import five_devices, halves, hand_plan, model_of, tee
from tests.runtime.test_hosts import _free_port

TOML = """
[network]
kind = "shared"
mbit_per_s = 50
[[device]]
name = "a"
profile = "a.json"
[[device]]
name = "b"
gflops = 1
"""


def _profile(key: str) -> Profile:
    """The layer at 2 GFLOP/s and 1 ms, everything else likewise."""
    samples = {key: [(flop, 1e-3 + flop / 2e9) for flop in (1e6, 2e6, 8e6)]}
    return fit_profile("chain", 1, samples, {})


def _cluster(folder: Path, key: str) -> Cluster:
    write_profile(_profile(key), folder / "a.json")
    (folder / "cluster.toml").write_text(TOML)
    return load_cluster(folder / "cluster.toml")


def test_fit_finds_overhead_and_rate() -> None:
    """1 ms + FLOP / 2 GFLOP/s, given exactly, comes back."""
    speed = fit_layer("x", [(flop, 1e-3 + flop / 2e9) for flop in (1e6, 2e6, 8e6)])
    assert speed.gflops == pytest.approx(2.0)
    assert speed.overhead_ms == pytest.approx(1.0)
    assert speed.residual == pytest.approx(0.0, abs=1e-9)


def test_fit_has_no_negative_overhead() -> None:
    """Times that grow faster than the work: a line through zero, and the residual says so."""
    speed = fit_layer("x", [(1e6, 1e-4), (2e6, 8e-4)])
    assert speed.overhead_ms == 0.0
    assert speed.residual > 0.1


def test_tiles_far_from_the_line_are_warned_of_and_explained() -> None:
    """Bug: a residual of 0.73 stood in the table, and nothing said what it means."""
    straight = [(flop, 1e-4 + flop / 1e9) for flop in (1e6, 2e6, 4e6, 8e6)]
    bent = [*straight[:-1], (8e6, 4e-2)]
    profile = fit_profile("m", 1, {"good": straight, "bad": bent}, {})
    (text,) = misfits(profile)
    assert text.startswith("1 of 2 layer shapes") and "worst: bad" in text and "idle" in text
    assert misfits(fit_profile("m", 1, {"good": straight}, {})) == ()


def test_cluster_takes_the_profiles_speeds(tmp_path: Path) -> None:
    """A measured layer has its own cost, another device is costed as before."""
    network = model_of("chain").network
    layer = network.spatial[0]
    cluster = _cluster(tmp_path, layer_key(layer))
    expected = 1e-3 + layer.flop / 2e9
    assert segment_compute_s(cluster, 0, [layer], layer.full) == pytest.approx(expected)
    assert segment_compute_s(cluster, 1, [layer], layer.full) == pytest.approx(layer.flop / 1e9)
    assert Cluster.model_validate(cluster.to_json()) == cluster
    problem = layer_problem(network, layer, cluster)
    assert problem is not None
    assert problem.devices[0].gflops == pytest.approx(2.0)
    assert problem.devices[0].overhead_ms == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('profile = "nowhere.json"', "nowhere.json"),
        ("profile = 3", "must be the path"),
        ('profile = "a.json"\ngflops = 1', "leave one of them out"),
    ],
)
def test_bad_profile_entries(tmp_path: Path, text: str, words: str) -> None:
    """Each message names what to change."""
    write_profile(_profile("x"), tmp_path / "a.json")
    path = tmp_path / "cluster.toml"
    path.write_text(TOML.replace('profile = "a.json"', text))
    with pytest.raises(InputError, match=words):
        load_cluster(path)


@pytest.mark.parametrize("executor", EACH)
def test_every_layer_shape_is_measured(tmp_path: Path, executor: str) -> None:
    """Each spatial shape at several sizes, the head whole; the file comes back unchanged."""
    model = load_model("tests.runtime.models:chain", (1, 3, 24, 20))
    measured = measure_layers(model, 1, 2, lambda text: None, executor)
    samples = measured.samples
    assert measured.executor == executor
    assert {layer_key(layer) for layer in model.network.spatial} <= set(samples)
    assert all(seconds > 0 for found in samples.values() for _, seconds in found)
    profile = fit_profile("chain", 1, samples, {"tool": "test"}, measured.executor)
    write_profile(profile, tmp_path / "p.json")
    assert load_profile(tmp_path / "p.json") == profile
    assert json.loads((tmp_path / "p.json").read_text())["schema"] == "nptp-opt/profile/1"


def test_a_cluster_takes_the_profiles_executor_and_a_run_by_another_is_told(
    tmp_path: Path, pool: WorkerPool
) -> None:
    """Speeds of one engine say little about another."""
    model = model_of("chain")
    cluster = _cluster(tmp_path, layer_key(model.network.spatial[0]))
    assert [device.executor for device in cluster.devices] == ["torch", None]
    content = five_devices().to_json()
    content["device"][0]["executor"] = "torch"
    plan = hand_plan(model, "chain", halves, cluster_from_json(content))
    for executor, count in (("torch", 0), ("onnxruntime", 1)):
        told: list[str] = []
        run_plan(
            plan, model, pool=pool, repeats=1, warmup=0, executor=executor, progress=told.append
        )
        found = [line for line in told if "'d0' computes by onnxruntime" in line]
        assert len(found) == count, told


def test_calibration_by_hand() -> None:
    """Every task took twice its modelled time: the speeds are halved."""
    model = model_of("chain")
    plan = hand_plan(model, "chain", tee, make_cluster([1.0] * 3))
    spans = {
        f"d{i}": [
            Span("compute", task.step, 0, round(2e9 * task.modelled_s))
            for task in device_program(plan, i).tasks
        ]
        for i in range(3)
    }
    for found in spans.values():
        found.append(Span("send", 1, 0, 300_000, 0, 8))
    content = calibrate_cluster(plan, spans)
    assert content["network"]["message_ms"] == pytest.approx(0.3)
    for entry in content["device"]:
        assert entry["layers"]
        assert all(s["gflops"] == pytest.approx(0.5, rel=0.01) for s in entry["layers"])


def test_rates_of_the_codec_reach_the_device(tmp_path: Path) -> None:
    """They are measured in both ways, written, and brought into a cluster that names the file."""
    measured = measure_codec(2)
    assert min(measured) > 0
    rates = dict(zip(CODEC_RATES, measured, strict=True))
    write_profile(_profile("conv").model_copy(update=rates), tmp_path / "pi.json")
    text = (
        '[network]\nkind = "shared"\nmbit_per_s = 9\n[[device]]\nname = "a"\nprofile = "pi.json"\n'
    )
    (tmp_path / "c.toml").write_text(text)
    (device,) = load_cluster(tmp_path / "c.toml").devices
    found = (device.encode_bytes_per_s, device.decode_bytes_per_s,
             device.huffman_encode_bytes_per_s, device.huffman_decode_bytes_per_s)  # fmt: skip
    assert found == pytest.approx([rate * 1e6 for rate in measured])


def test_messages_that_are_encoded_say_nothing_of_handing_over() -> None:
    """Their spans have the codec's seconds in them; those of the others count alone."""
    model = model_of("chain")
    known = {layer.name: Density(0.4, 0.4) for layer in model.network.spatial}
    plan = hand_plan(model.of_densities(known), "chain", tee, make_cluster([1.0] * 3))
    sends = {
        (step, move.src, move.dst, move.encoding)
        for step, each in enumerate(plan.steps)
        for move in each.transfers
    }
    assert {encoding for *_, encoding in sends} == {"dense", "bitmask"}
    spans = {
        f"d{i}": [
            Span("send", step, 0, 300_000 if encoding == "dense" else 9_000_000, dst, 8)
            for step, src, dst, encoding in sends
            if src == i
        ]
        + [Span("compute", task.step, 0, 1_000_000) for task in device_program(plan, i).tasks]
        for i in range(3)
    }
    content = calibrate_cluster(plan, spans)
    assert content["network"]["message_ms"] == pytest.approx(0.3)


def _visit(address: str) -> None:
    """A stranger that knows no secret, as soon as somebody listens."""
    while True:
        with contextlib.suppress(ChannelError):
            stranger = connect(f"tcp:{address}", 10)
            break
    with pytest.raises(RefusedError, match="wrong secret"):
        join(stranger, Keys(b"another secret than theirs"), {"device": "profile"})


def test_link_to_a_peer(tmp_path: Path) -> None:
    """Both sides on the loopback interface, where handing over can be all of the latency.

    Bug: a stranger that came first ended the measurement.
    """
    secret = tmp_path / "secret"
    secret.write_text("a secret of this test")
    address = f"127.0.0.1:{_free_port()}"
    server = threading.Thread(target=serve_link, args=(address, read_keys(secret)))
    server.start()
    _visit(address)
    found: list[Link] = []
    while not found:
        try:
            found.append(measure_link(address, read_keys(secret)))
        except Exception:  # noqa: BLE001 - the server may not listen yet
            assert server.is_alive()
    server.join(30)
    assert found[0].latency_ms >= 0
    assert 0 < found[0].message_ms < 1e3
    assert found[0].up_mbit_per_s > 1


@pytest.mark.parametrize(
    ("entry", "rates"), [("", (80.0, 90.0)), ("\nup_mbit_per_s = 5", (5.0, 90.0))]
)
def test_cluster_takes_the_measured_link(
    tmp_path: Path, entry: str, rates: tuple[float, float]
) -> None:
    """Bug: it was measured and written, and no cluster file could use it.

    What the entry says counts more; devices on a shared medium have no rates of their own.
    """
    link = Link(latency_ms=0.1, up_mbit_per_s=80.0, down_mbit_per_s=90.0)
    write_profile(_profile("x").model_copy(update={"link": link}), tmp_path / "a.json")
    path = tmp_path / "cluster.toml"
    path.write_text(TOML)
    assert load_cluster(path).devices[0].up_mbit_per_s is None
    switched = TOML.replace('"shared"\nmbit_per_s = 50', '"switched"').replace(
        "gflops = 1", "gflops = 1\nup_mbit_per_s = 7\ndown_mbit_per_s = 7"
    )
    path.write_text(switched.replace('"a.json"', f'"a.json"{entry}'))
    device = load_cluster(path).devices[0]
    assert (device.up_mbit_per_s, device.down_mbit_per_s) == rates


@pytest.mark.parametrize("side", ["--serve", "--peer"])
@pytest.mark.parametrize(("secret", "words"), [(None, "cannot be read"), ("short", "shorter")])
def test_bad_secret_of_a_profile(tmp_path: Path, side: str, secret: str | None, words: str) -> None:
    """Bug: a secret's file that is missing or too short ended in a traceback."""
    if secret is not None:
        (tmp_path / "secret").write_text(secret)
    given = ["profile", "tests.runtime.models:chain", "-o", str(tmp_path / "p.json")]
    given += ["--secret-file", str(tmp_path / "secret"), side, "127.0.0.1:1"]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 2
    assert words in result.stderr
