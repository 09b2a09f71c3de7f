"""Densities of maps: counted on samples, which have to be inputs of the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import nptp_opt
from nptp_opt.errors import InputError
from nptp_opt.kernels import run_network
from nptp_opt.kernels.densities import measure_densities
from nptp_opt.network.ir import Density
from tests.models import small_cnn
from tests.network.several_inputs import TwoImages

SHAPE = (1, 3, 12, 10)


def _loaded(**options: object) -> nptp_opt.LoadedModel:
    torch.manual_seed(0)
    return nptp_opt.load_model(small_cnn().eval(), SHAPE, **options)  # type: ignore[arg-type]


def test_shares_of_non_zeros_are_counted(tmp_path: Path) -> None:
    """Mean and 90th percentile of what the network makes of each sample, one without its batch."""
    model, random = _loaded(), np.random.default_rng(0)
    first, second = random.standard_normal((2, *SHAPE)).astype(np.float32)
    second[..., :6, :] = 0.0
    second[0, 0, 0, 0] = -0.0
    np.save(tmp_path / "a.npy", first)
    np.savez(tmp_path / "b.npz", image=second[0])
    (tmp_path / "notes.txt").write_text("no sample")
    found = measure_densities(model, tmp_path)
    second_share = 181 / 360  # -0.0 is a value
    image = found[model.network.inputs[0]]
    assert image.mean == pytest.approx((1 + second_share) / 2)
    assert image.p90 == pytest.approx(0.9 + 0.1 * second_share)
    made = [dict(run_network(model.network, model.weights(), torch.from_numpy(x)))
            for x in (first, second)]  # fmt: skip
    for layer in model.network.spatial:
        shares = [float((each[layer.name] != 0).float().mean()) for each in made]
        assert found[layer.name].mean == pytest.approx(np.mean(shares), abs=1e-6)
    assert any(each.mean < 0.9 for each in found.values())
    assert all(0 < each.first_byte_bits <= 8 for each in found.values())


def test_bits_of_first_bytes_are_those_of_their_codes(tmp_path: Path) -> None:
    """Signs and exponents of normal numbers take 2.7 bits; of too few of them none are saved."""
    random = np.random.default_rng(0)
    model = nptp_opt.load_model(torch.nn.Conv2d(3, 3, 1).eval(), (1, 3, 200, 200))
    np.save(tmp_path / "a.npy", random.standard_normal((1, 3, 200, 200), dtype=np.float32))
    found = measure_densities(model, tmp_path)
    assert found[model.network.inputs[0]].first_byte_bits == pytest.approx(2.7, abs=0.1)
    small = nptp_opt.load_model(torch.nn.Conv2d(3, 3, 1).eval(), (1, 3, 2, 2))
    np.save(tmp_path / "a.npy", random.standard_normal((1, 3, 2, 2), dtype=np.float32))
    assert measure_densities(small, tmp_path)[small.network.inputs[0]].first_byte_bits == 8.0


def test_pixels_may_come_as_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full(SHAPE, 200, dtype=np.uint8))
    model = _loaded(input_dtype="uint8", scale=255)
    found = measure_densities(model, tmp_path)
    known = found[model.network.inputs[0]]
    assert known == Density(1.0, 1.0, known.first_byte_bits)


def test_samples_have_the_models_own_shape(tmp_path: Path) -> None:
    """Bug: those of a model whose channels come last were refused, told the network's shape."""

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x.permute(0, 3, 1, 2)))

    model = nptp_opt.load_model(Last(), (1, 8, 7, 3))
    image = np.zeros((1, 8, 7, 3), np.float32)
    image[:, :4] = 1.0
    np.save(tmp_path / "a.npy", image)
    found = measure_densities(model, tmp_path)
    assert found[model.network.inputs[0]].mean == pytest.approx(0.5)
    made = model.reference(torch.from_numpy(image).permute(0, 3, 1, 2), [])
    share = np.mean([float((each != 0).float().mean()) for each in made.values()])
    assert found[model.network.outputs[0]].mean == pytest.approx(share)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.zeros((1, 3, 12, 11), np.float32), "the model's input is"),
        (np.full(SHAPE, np.nan, np.float32), "not finite"),
        (np.full(SHAPE, "a"), "numbers are wanted"),
        (None, "no samples"),
    ],
)
def test_what_is_no_sample_is_refused(tmp_path: Path, values: object, why: str) -> None:
    if values is not None:
        np.save(tmp_path / "a.npy", values)  # type: ignore[arg-type]
    model = _loaded()
    with pytest.raises(InputError, match=why):
        measure_densities(model, tmp_path)


def test_files_and_folders_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """No folder, no array in the file, and pixels that are no bytes."""
    model = _loaded(input_dtype="uint8", scale=255)
    with pytest.raises(InputError, match="no folder"):
        measure_densities(model, tmp_path / "none")
    (tmp_path / "a.npy").write_bytes(b"no array")
    with pytest.raises(InputError, match="cannot be read"):
        measure_densities(model, tmp_path)
    np.save(tmp_path / "a.npy", np.full(SHAPE, 0.5, np.float32))
    with pytest.raises(InputError, match="from 0 to 255"):
        measure_densities(model, tmp_path)


def _two_images() -> nptp_opt.LoadedModel:
    torch.manual_seed(0)
    return nptp_opt.load_model(TwoImages(), (SHAPE, SHAPE), input_dtype=("uint8", "float32"))


def test_of_several_inputs_every_file_is_a_sample(tmp_path: Path) -> None:
    """Arrays by the names of the inputs, one of bytes beside one of floats."""
    model = _two_images()
    right = np.ones(SHAPE, np.float32)
    right[..., :3, :] = 0.0
    np.savez(tmp_path / "a.npz", left=np.zeros(SHAPE, np.uint8), right=right[0])
    np.savez(tmp_path / "b.npz", right=right, left=np.full(SHAPE, 9, np.uint8))
    found = measure_densities(model, tmp_path)
    left, other = (found[name].mean for name in model.network.inputs)
    assert (left, other) == (pytest.approx(0.5, abs=1e-5), pytest.approx(0.75))


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"left": np.zeros(SHAPE, np.uint8)}, "has left; the model reads left, right"),
        ({"left": np.zeros(SHAPE, np.uint8), "right": np.full(SHAPE, np.inf, np.float32)},
         "a.npz: right: values that are not finite"),
        (None, "one array for 2 inputs"),
    ],
)  # fmt: skip
def test_samples_of_several_inputs_have_them_all(
    tmp_path: Path, arrays: dict[str, np.ndarray] | None, why: str
) -> None:
    if arrays is None:
        np.save(tmp_path / "a.npy", np.zeros(SHAPE, np.uint8))
    else:
        np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=why):
        measure_densities(_two_images(), tmp_path)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    """Bug: what zipfile and zlib say of one was an internal error."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, image=np.random.default_rng(0).random(SHAPE, np.float32))
    whole = path.read_bytes()
    for broken in (b"PK\x03\x04" + bytes(40), whole[:200] + bytes(50) + whole[250:]):
        path.write_bytes(broken)
        with pytest.raises(InputError, match=r"a\.npz: cannot be read as \.npz"):
            measure_densities(_loaded(), tmp_path)


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan"), -0.1])
def test_densities_lie_in_0_to_1(share: float) -> None:
    model = _loaded()
    with pytest.raises(InputError, match=r"must lie in \(0, 1\]"):
        model.of_densities({model.network.layers[0].name: Density(share, 1.0)})
    with pytest.raises(InputError, match="no map"):
        model.of_densities({"nowhere": Density(0.5, 0.5)})
