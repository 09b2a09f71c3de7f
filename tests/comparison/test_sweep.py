"""Sweeps: the ranges, the changed clusters, and every latency against a plan of that cluster."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nptp_opt.commands.sweep import _collect_rows
from nptp_opt.comparison.sweep import (
    Axis,
    Row,
    cluster_at,
    flat,
    parse_axis,
    points,
    ratio,
    sweep_rows,
    winner,
)
from nptp_opt.errors import InputError
from nptp_opt.layer.limits import Limits
from nptp_opt.network.ir import Density
from nptp_opt.network.ref import ModelRef
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.plot.sweep_figure import draw_sweep
from tests.builders import conv_chain, make_cluster
from tests.cli.test_commands import CLUSTER, MODEL, call

NETWORK = conv_chain((1, 3, 16, 16), [{"channels": 32}, {"channels": 16, "stride": 2}, {}])
PLANNERS = ("nptp", "single", "strip-equal")


def test_ranges_are_even_in_factors_but_for_devices_and_from_zero() -> None:
    assert parse_axis("rate=10:1000:3") == Axis("rate", (10.0, 100.0, 1000.0))
    assert parse_axis("devices=2:5").values == (2.0, 3.0, 4.0, 5.0)
    assert parse_axis("devices=2:8:3").values == (2.0, 5.0, 8.0)
    assert parse_axis("latency_ms=0:2:3").values == (0.0, 1.0, 2.0)
    assert len(parse_axis("gflops=1:16").values) == 5
    assert parse_axis("rate=50") == Axis("rate", (50.0,))
    assert parse_axis("latency_ms=0").values == (0.0,)


@pytest.mark.parametrize(
    "text",
    ["rate", "rate=0", "rate=5:5", "devices=2:2", "devices=0", "rate=5:1",
     "rate=0:1", "rate=nan:1", "rate=1:inf", "rate=1:2:1",
     "rate=1:2:3:4", "rate=a:b", "devices=1.5:3", "devices=0:3", "speed=1:2"],
)  # fmt: skip
def test_a_bad_range_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"`ranges`|rate"):
        parse_axis(text)


def test_dense_latencies_stand_beside_those_with_encodings() -> None:
    """Of every planner, in the row and in the table, where it was asked for."""
    known = dict.fromkeys(NETWORK.shapes, Density(0.3, 0.3))
    sparse = replace(NETWORK, densities=known)
    over = points(make_cluster((0.01, 0.01), rates=1.0), [parse_axis("rate=1:1000:2")])
    limits, said = Limits(), list[str]()
    slow, fast = sweep_rows(sparse, over, PLANNERS, limits, said.append, NETWORK)
    assert slow["latency_s"]["strip-equal"] < slow["dense_latency_s"]["strip-equal"]
    assert slow["latency_s"]["single"] == slow["dense_latency_s"]["single"]
    for planner in PLANNERS:
        assert fast["latency_s"][planner] <= fast["dense_latency_s"][planner] * (1 + 1e-9)
    line = flat(slow)
    for planner in PLANNERS:
        assert line[f"{planner} dense ms"] == slow["dense_latency_s"][planner] * 1e3
    assert list(line)[:3] == ["rate", "nptp ms", "nptp dense ms"]


def test_a_table_without_the_planner_nptp_has_no_ratio_to_it() -> None:
    """Bug: a column of dashes, which on a terminal became a second table."""
    row = {"rate": 10.0, "latency_s": {"single": 1.0}, "winner": "single", "ratio": None}
    assert list(flat(row)) == ["rate", "single ms", "winner"]
    assert "nptp/best baseline" in flat({**row, "latency_s": {"nptp": 1.0}})


def test_the_command_sweeps_with_samples(tmp_path: Path) -> None:
    """Pixels and samples from the options; the JSON has both latencies of every planner."""
    folder, cluster = tmp_path / "samples", tmp_path / "c.toml"
    folder.mkdir()
    cluster.write_text(CLUSTER)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 20, 24), dtype=np.uint8)
    np.save(folder / "a.npy", pixels)
    result = call("sweep", MODEL, "-c", cluster, "--over", "rate=1", "--input", "1x3x20x24",
                  "--input-dtype", "uint8", "--scale", 255, "--samples", folder,
                  "--planner", "strip-equal", "--json")  # fmt: skip
    (row,) = json.loads(result.stdout)["rows"]
    assert row["latency_s"]["strip-equal"] < row["dense_latency_s"]["strip-equal"]


def test_a_cluster_changes_in_what_is_swept_alone() -> None:
    cluster = make_cluster((4.0, 2.0), rates=[10.0, 20.0], latency_ms=0.1)
    more = cluster_at(cluster, {"devices": 3.0, "gflops": 8.0, "rate": 50.0, "latency_ms": 1.0})
    assert [device.name for device in more.devices] == ["d0", "d1", "d0-2"]
    assert [device.gflops for device in more.devices] == [8.0, 4.0, 8.0]
    assert {device.up_mbit_per_s for device in more.devices} == {50.0}
    assert more.network.latency_ms == 1.0
    assert cluster_at(cluster, {"devices": 2.0}) == cluster
    shared = make_cluster((1.0,), shared=True)
    assert cluster_at(shared, {"rate": 7.0}).network.mbit_per_s == 7.0


def test_a_sink_that_is_swept_away_is_an_error_before_any_planning() -> None:
    cluster = make_cluster((1.0, 1.0, 1.0), sink="d2")
    with pytest.raises(InputError, match=r"devices=2.*network.sink"):
        points(cluster, [parse_axis("devices=2:3")])


@pytest.mark.parametrize("end", ["source", "sink"])
def test_a_sweep_without_an_end_says_which_devices_it_takes_and_what_to_do(end: str) -> None:
    """Bug: "network.sink = 'd2' is no device" did not say that the first ones are taken."""
    cluster = make_cluster((1.0, 1.0, 1.0), **{end: "d2"})
    words = rf"first 2 .*entries, without network\.{end} = 'd2': put source and sink first"
    with pytest.raises(InputError, match=words):
        points(cluster, [parse_axis("rate=10"), parse_axis("devices=2:3")])


def test_every_latency_is_that_of_a_plan_of_the_changed_cluster() -> None:
    cluster = make_cluster((1.0, 1.0), rates=100.0)
    over = points(cluster, [parse_axis("rate=10:10000:3")])
    rows = list(sweep_rows(NETWORK, over, PLANNERS, Limits(), lambda _: None))
    for row in rows:
        on = cluster_at(cluster, {"rate": row["rate"]})
        for name in PLANNERS:
            plan = plan_network(ModelRef("chain", (1, 3, 16, 16)), NETWORK, on, PlanOptions(name))
            assert row["latency_s"][name] == pytest.approx(plan.latency_s, rel=1e-12)
    assert rows[0]["winner"] == "nptp" and rows[-1]["winner"] == "strip-equal"
    assert all(row["ratio"] <= 1 + 1e-12 for row in rows)


def test_a_planner_without_a_plan_that_fits_is_left_empty() -> None:
    cluster = make_cluster((1.0, 1.0), memory_mib={0: 0.01, 1: 0.01})
    over = points(cluster, [parse_axis("latency_ms=1:2:2")])
    said: list[str] = []
    rows = list(sweep_rows(NETWORK, over, ("single",), Limits(), said.append))
    assert [row["latency_s"]["single"] for row in rows] == [None, None]
    assert rows[0]["winner"] is None and any("single" in text for text in said)


def test_ties_go_to_the_baseline() -> None:
    assert winner({"nptp": 1.0, "single": 1.0005}) == "single"
    assert winner({"nptp": 0.9, "single": 1.0}) == "nptp"
    assert winner({"nptp": 1.0, "single": None}) == "nptp"
    assert ratio({"nptp": 0.5, "single": 2.0, "strip-equal": 1.0}) == 0.5
    assert ratio({"single": 2.0}) is None


def _interrupted_after(count: int) -> Callable[..., Iterator[Row]]:
    def rows(*given: Any) -> Iterator[Row]:
        for number, row in enumerate(sweep_rows(*given)):
            if number == count:
                break
            yield row
        raise KeyboardInterrupt

    return rows


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_interrupt_keeps_what_is_finished(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: an interrupted sweep ended with status 0, one without points with 4."""
    monkeypatch.setattr("nptp_opt.comparison.sweep.sweep_rows", _interrupted_after(count))
    (tmp_path / "c.toml").write_text(CLUSTER)
    args = ("sweep", MODEL, "-c", tmp_path / "c.toml", "--input", "1x3x20x24", "--json")
    more = ("--over", "rate=10:1000:3", "--planner", "single", "-o", tmp_path / "t.csv")
    result = call(*args, *more, "--png", tmp_path / "t.png")
    assert result.exit_code == 130
    assert f"{count} of 3 points are finished" in result.stderr
    assert (tmp_path / "t.png").exists() == (tmp_path / "t.csv").exists() == (count > 0)
    if count:
        content = json.loads(result.stdout)
        assert not content["complete"] and len(content["rows"]) == count
        assert len((tmp_path / "t.csv").read_text().splitlines()) == count + 1


def test_points_are_in_the_table_as_soon_as_they_are_finished(tmp_path: Path) -> None:
    """Bug: the table was written at the end, so that a sweep that was killed left nothing."""
    seen: list[int] = []

    def found() -> Iterator[Row]:
        for rate in (1.0, 2.0):
            seen.append(len(table.read_text().splitlines()) if table.exists() else 0)
            yield {"rate": rate, "latency_s": {"single": 1.0}, "winner": "single", "ratio": None}

    table = tmp_path / "t.csv"
    assert _collect_rows(found(), table)[1]
    assert seen == [0, 2] and len(table.read_text().splitlines()) == 3


def test_a_figure_of_one_point_and_of_equal_latencies_can_be_drawn() -> None:
    """Numbers of the axis lay over each other where latencies span a decade or more."""
    for spread in (1.0, 100.0):
        row = {"rate": 50.0, "latency_s": {"nptp": 0.01, "single": 0.01 * spread, "none": None}}
        figure = draw_sweep([row], [Axis("rate", (50.0,))], "one")
        figure.canvas.draw()
        ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert ticks and "90" not in ticks


@pytest.mark.parametrize("ranges", [["rate=10:1000:3"], ["rate=10:1000:3", "devices=1:2"]])
def test_figures_show_what_is_finished(ranges: list[str]) -> None:
    axes = [parse_axis(text) for text in ranges]
    over = points(make_cluster((1.0, 1.0)), axes)
    rows = list(sweep_rows(NETWORK, over[:2], PLANNERS, Limits(), lambda _: None))
    figure = draw_sweep(rows, axes, "chain")
    figure.canvas.draw()
    ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert ticks == ["10", "100", "1000"][: len(ticks)], "1000 was 1e+03"
    if len(axes) == 1:
        drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
        assert [*drawn] == [*PLANNERS]
        assert drawn["single"][1] == rows[1]["latency_s"]["single"] * 1e3
    else:
        texts = [text.get_text() for text in figure.axes[1].texts]
        assert texts == [f"{row['ratio']:.3f}" for row in rows]


def test_the_command_writes_table_and_figures(tmp_path: Path) -> None:
    on = tmp_path / "cluster.toml"
    on.write_text(CLUSTER)
    outputs = ("-o", tmp_path / "t.csv", "--png", tmp_path / "t.png", "--svg", tmp_path / "t.svg")
    args = ("sweep", MODEL, "-c", on, "--input", "1x3x20x24", "--over", "rate=10:1000:2")
    result = call(*args, "--planner", "single", *outputs, "--json")
    assert result.exit_code == 0, result.stderr
    content = json.loads(result.stdout)
    lines = [*csv.DictReader((tmp_path / "t.csv").open())]
    found = [float(line["single ms"]) / 1e3 for line in lines]
    assert found == pytest.approx([row["latency_s"]["single"] for row in content["rows"]])
    assert content["complete"] and (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (tmp_path / "t.svg").read_text()
    assert call(*args, "--over", "rate=1:2").exit_code == 2
