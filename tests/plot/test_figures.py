"""Figures: every tile can be seen, whatever the map's shape; devices can be told apart and are
named; a figure's file is the same whenever it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from nptp_opt.comparison.store import Store
from nptp_opt.evaluate.critical_path import critical_path
from nptp_opt.evaluate.simulate import timeline
from nptp_opt.geometry import Tile
from nptp_opt.plan.model import Plan
from nptp_opt.plot import report_figures
from nptp_opt.plot.colours import HALO, device_keys, paint
from nptp_opt.plot.convergence_figure import draw_convergence
from nptp_opt.plot.figure_file import new_axes, write_figure_file
from nptp_opt.plot.halo_figure import draw_halos, most_sent
from nptp_opt.plot.latency_figure import draw_latencies
from nptp_opt.plot.partition import draw_partition
from nptp_opt.plot.plan_figure import draw_plan
from nptp_opt.plot.profile_figure import draw_profile
from nptp_opt.plot.report_figures import write_plan_figures
from nptp_opt.plot.timeline_figure import CRITICAL, draw_timeline
from tests.builders import conv_chain, make_cluster
from tests.comparison.runs import records
from tests.plot.viewer.plans import plan_of, two_devices


@pytest.mark.parametrize(("height", "width"), [(4096, 1), (1, 300), (28, 28)])
def test_every_half_of_a_map_can_be_seen(height: int, width: int) -> None:
    """The map of a linear layer, 4096 x 1, was a line drawn to scale."""
    figure = Figure(figsize=(2, 2), dpi=100)
    middle = height // 2 if height > 1 else 1
    tiles = {0: Tile(0, middle, 0, width)}
    tiles[1] = Tile(middle, height, 0, width) if height > 1 else Tile(0, 0, 0, 0)
    ax = draw_partition(tiles, height, width, ["a", "b"], ax=figure.add_subplot())
    figure.canvas.draw()
    for tile, patch in zip(tiles.values(), ax.patches, strict=True):
        extent = patch.get_window_extent()
        assert tile.is_empty or min(extent.width, extent.height) > 20


def strips_of(count: int) -> Plan:
    """One convolution on ``count`` devices."""
    network = conv_chain((1, 4, 64, 8), [{}, {}])
    cluster = make_cluster([0.01] * count, rates=10.0)
    rows = [64 * k // count for k in range(count + 1)]
    return plan_of(
        network,
        cluster,
        lambda _, width: {k: Tile(rows[k], rows[k + 1], 0, width) for k in range(count)},
    )


def texts_of(figure: Figure) -> set[str]:
    """What is written in a figure's panels and legends."""
    legends = [*figure.legends, *(own for ax in figure.axes if (own := ax.get_legend()))]
    named = {text.get_text() for legend in legends for text in legend.get_texts()}
    return named | {text.get_text() for ax in figure.axes for text in ax.texts}


def test_64_devices_look_different() -> None:
    assert len({(look["facecolor"], look["hatch"]) for look in map(paint, range(64))}) == 64
    assert [key.get_label() for key in device_keys(["a", "b", "c"], [2, 0, 0])] == ["a", "c"]


@pytest.mark.parametrize("count", [8, 64])
def test_every_device_is_named_once_and_readably(count: int) -> None:
    """Up to a dozen in the tiles, beyond in a legend: 64 names in tiles covered each other."""
    plan = strips_of(count)
    figure = draw_plan(plan)
    assert {f"d{i}" for i in range(count)} <= texts_of(figure)
    assert bool(figure.legends) == (count > 12)
    assert all(not ax.texts for ax in figure.axes) == (count > 12)
    figure.canvas.draw()
    if figure.legends:
        box, page = figure.legends[0].get_window_extent(), figure.bbox
        assert page.x0 <= box.x0 and box.x1 <= page.x1 + 1 and box.y0 >= page.y0 - 1


def test_halos_are_hatched_in_their_receivers_colours() -> None:
    """Of two halves each fetches a row of eight from the other: step 1 of tests/plot/viewer."""
    plan = two_devices()
    ax = draw_halos(plan, 1, Figure().add_subplot())
    hatched = [patch for patch in ax.patches if patch.get_hatch() == HALO]
    rectangles = {(p.get_y(), p.get_height(), to_hex(p.get_facecolor())) for p in hatched}
    assert rectangles == {
        (4, 1, paint(0)["facecolor"]), (3, 1, paint(1)["facecolor"]),
    }  # fmt: skip
    assert most_sent(plan) == 0  # half of the input and a row
    with pytest.raises(ValueError, match="step 2 sends no part"):
        draw_halos(strips_of(1), 2)


def test_the_timeline_has_every_stretch_and_outlines_the_critical_path() -> None:
    plan = two_devices()
    ax = draw_timeline(plan, Figure().add_subplot())
    stretches = timeline(plan.network, plan.cluster, plan.steps)
    assert len(ax.collections) == len(stretches)
    outlined = [bar for bar in ax.collections if to_hex(bar.get_edgecolor()[0]) == CRITICAL]
    assert len(outlined) == len(critical_path(stretches))
    assert ax.get_xlim()[1] == pytest.approx(plan.latency_s * 1e3)


def test_latencies_are_bars_in_ms_beside_what_was_executed() -> None:
    ax = draw_latencies({"single": 2.0, "nptp": 0.5}, {"nptp": 0.6}, bound_s=0.4,
                        ax=Figure().add_subplot())  # fmt: skip
    assert [round(bar.get_width()) for bar in ax.patches] == [2000, 500, 600]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "bound of every plan", "predicted", "executed",
    ]  # fmt: skip


def test_curves_keep_their_values_to_the_end() -> None:
    curves = {"a": [(1.0, 0.5), (2.0, 1.0)], "b": [(1.0, 0.0), (3.0, 0.5)]}
    lines = draw_profile(curves, "time", Figure().add_subplot()).lines
    assert [line.get_ydata()[-1] for line in lines] == [1.0, 0.5]
    assert [line.get_xdata()[-1] for line in lines] == pytest.approx([3.15, 3.15])
    gaps = draw_convergence({"a": [(0.1, 1.0), (1.0, 0.25)]}, Figure().add_subplot())
    assert list(gaps.lines[0].get_ydata()) == [1.0, 0.25]


def test_files_of_a_plan_are_the_same_whenever_they_are_written(tmp_path: Path) -> None:
    write_plan_figures(two_devices(), tmp_path / "one")
    write_plan_figures(two_devices(), tmp_path / "two")
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == sorted(
        f"{n}.{k}" for n in ("partitions", "timeline", "halos") for k in ("svg", "pdf")
    )
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    figure, _ = new_axes()
    write_figure_file(figure, tmp_path / "x.png", "png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_the_figures_of_a_results_file_are_those_of_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer by two methods, a network by two planners."""
    rows = [
        {"method": "grid", "value_s": 2.0, "key": "1"},
        {"method": "column-dp", "key": "2"},
        {"method": "single", "kind": "network", "instance": "n", "value_s": 2.0, "key": "3"},
        {"method": "nptp", "kind": "network", "instance": "n", "key": "4"},
    ]
    monkeypatch.setattr(report_figures, "load_records", lambda store: records(*rows))
    with Store(tmp_path / "r.sqlite"):
        pass
    report_figures.write_run_figures(tmp_path / "r.sqlite", tmp_path / "out")
    curves = ("profile-time", "profile-value", "convergence")
    names = {f"{kind}-{curve}" for kind in ("layer", "network") for curve in curves}
    names.add("network-latencies")
    assert {path.stem for path in (tmp_path / "out").iterdir()} == names
    assert "<!-- nptp" in (tmp_path / "out" / "network-latencies.svg").read_text()
