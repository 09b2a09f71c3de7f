"""Pixels and samples on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_commands import MODEL, call, called_json, cluster

BYTES = ("--input-dtype", "uint8")
PIXELS = (*BYTES, "--scale", "255", "--mean", "0.5,0.4,0.3", "--std", "0.25")


__all__ = ["cluster"]


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, 20, 24), dtype=np.uint8)
    np.save(folder / "a.npy", pixels)
    return folder


def test_a_plan_of_pixels_and_samples_is_verified(
    tmp_path: Path, cluster: Path, samples: Path
) -> None:
    """From the options to the verdict: nothing but the plan file goes between."""
    path = tmp_path / "plan.json"
    result = call("solve", MODEL, "-c", cluster, "-o", path, "--input", "1x3x20x24", *PIXELS,
                  "--samples", samples, "--planner", "strip-equal", "--no-bound")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "counting zeros" in result.stderr
    assert called_json("verify", path)["ok"]
    assert '"pixels"' in path.read_text() and '"densities"' in path.read_text()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--scale", "255"), "--scale is for pixels: give --input-dtype uint8"),
        ((*BYTES, "--std", "0"), "--std must be positive"),
        ((*BYTES, "--mean", "0.1,0.2"), "--mean has 2 numbers, the input 'input' 3 channels"),
        ((*BYTES, "--mean", "1", "--mean", "2"), "--mean is given 2 times for 1 inputs"),
        ((*BYTES, "--input-dtype", "float32"), "--input-dtype has 2 types, the model 1 inputs"),
        ((*PIXELS, "--mean", "much"), "numbers by commas"),
        (("--samples", "nowhere"), "--samples is no folder"),
    ],
)
def test_what_cannot_be_meant_ends_in_one_line(
    tmp_path: Path, cluster: Path, options: tuple[str, ...], why: str
) -> None:
    """It names the option, and no plan is written."""
    path = tmp_path / "plan.json"
    result = call("solve", MODEL, "-c", cluster, "-o", path, "--input", "1x3x20x24",
                  "--trust-import", "--planner", "single", *options)  # fmt: skip
    assert result.exit_code == 2
    assert why in result.stderr.replace("\n", " ")
    assert not path.exists()
