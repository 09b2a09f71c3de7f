"""Files become the model's inputs, and what is broken or does not fit says so."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file
from safetensors.torch import save_file as torch_file

from nptp_opt.deployment.inputs import input_files, read_input
from nptp_opt.deployment.normalising import normalising
from nptp_opt.errors import InputError
from nptp_opt.network.signature import TensorSpec

IMAGE = (TensorSpec("x", (1, 3, 4, 6), torch.float32),)
GREY = (TensorSpec("x", (1, 1, 4, 6), torch.float32),)
TWO = (TensorSpec("a", (1, 2), torch.float32), TensorSpec("b", (2,), torch.int64))
PLAIN = normalising(3, 1.0, [0.0], [1.0])


def _array(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_read_as_they_were_written(tmp_path: Path, order: Any) -> None:
    """In rows or in columns, from all kinds of files; a single array may have any name."""
    x = _array((1, 3, 4, 6))
    stored = np.asarray(x, order=order)
    np.save(tmp_path / "x.npy", stored)
    np.savez(tmp_path / "x.npz", whatever=stored)
    np.savez_compressed(tmp_path / "y.npz", x=stored)
    save_file({"image": x}, tmp_path / "x.safetensors")
    np.save(tmp_path / "big.npy", x.astype(">f4"))
    for path in input_files([tmp_path]):
        (found,) = read_input(path, IMAGE, None).values()
        assert np.array_equal(found, x) and found.dtype == np.dtype("=f4"), path


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_batch_of_one_may_be_left_out(tmp_path: Path, order: Any) -> None:
    """Bug: `solve --samples` took such an array, `infer` refused it."""
    x = _array((1, 3, 4, 6))
    stored = np.asarray(x[0], order=order)
    np.save(tmp_path / "x.npy", stored)
    np.savez(tmp_path / "x.npz", x=stored)
    save_file({"x": x[0]}, tmp_path / "x.safetensors")
    for path in input_files([tmp_path]):
        (found,) = read_input(path, IMAGE, None).values()
        assert np.array_equal(found, x), path
    np.save(tmp_path / "x.npy", _array((4, 6)))
    with pytest.raises(InputError, match="float32 4x6, the model takes float32 1x3x4x6"):
        read_input(tmp_path / "x.npy", IMAGE, None)
    two = (TensorSpec("x", (2, 4, 6), torch.float32),)  # a batch of two is not left out
    with pytest.raises(InputError, match="the model takes float32 2x4x6"):
        read_input(tmp_path / "x.npy", two, None)


def test_arrays_of_shorter_floats_are_widened(tmp_path: Path) -> None:
    """Bug: those of a float16 model, which is computed in float32, were refused."""
    x = _array((1, 3, 4, 6)) / np.float32(8)
    np.save(tmp_path / "x.npy", x.astype(np.float16))
    tensors = torch.from_numpy(x)
    torch_file({"x": tensors.to(torch.bfloat16)}, tmp_path / "b.safetensors")
    torch_file({"x": tensors.to(torch.float16)}, tmp_path / "h.safetensors")
    for path in input_files([tmp_path]):
        (found,) = read_input(path, IMAGE, None).values()
        assert np.array_equal(found, x) and found.dtype == np.float32, path


def test_several_inputs_go_by_name(tmp_path: Path) -> None:
    a, b = _array((1, 2)), _array((2,), np.int64)
    np.savez(tmp_path / "in.npz", b=b, a=a)
    found = read_input(tmp_path / "in.npz", TWO, None)
    assert np.array_equal(found["a"], a) and np.array_equal(found["b"], b)
    np.savez(tmp_path / "in.npz", a=a, c=b)
    with pytest.raises(InputError, match=r"in\.npz: the model has no input 'c'; it takes a, b"):
        read_input(tmp_path / "in.npz", TWO, None)
    np.save(tmp_path / "in.npy", a)
    with pytest.raises(InputError, match=r"in.npy: one array for 2 inputs \(a, b\): use .npz"):
        read_input(tmp_path / "in.npy", TWO, None)


def test_images_are_resized_and_normalised(tmp_path: Path) -> None:
    """Pixels of the model's size come out as stored, red first; rows are rows."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_input(tmp_path / "a.png", IMAGE, PLAIN)["x"]
    assert np.array_equal(found, pixels.transpose(2, 0, 1)[None].astype(np.float32))
    prepared = read_input(tmp_path / "a.png", IMAGE, normalising(3))["x"]
    expected = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(prepared[0], expected.transpose(2, 0, 1), atol=1e-5)
    grey = read_input(tmp_path / "a.png", GREY, normalising(1))["x"]
    assert grey.shape == (1, 1, 4, 6) and 0 <= grey.min() <= grey.max() <= 1
    Image.new("RGBA", (60, 40), (10, 20, 30, 255)).save(tmp_path / "b.webp", lossless=True)
    found = read_input(tmp_path / "b.webp", IMAGE, PLAIN)["x"]
    assert found.shape == (1, 3, 4, 6) and np.array_equal(found[0, :, 2, 3], [10, 20, 30])


def test_a_photo_that_was_taken_on_its_side_is_turned(tmp_path: Path) -> None:
    """Cameras store the turn beside the pixels."""
    image = Image.new("RGB", (4, 6))
    image.putpixel((0, 0), (255, 0, 0))
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "a.png", exif=turned)
    found = read_input(tmp_path / "a.png", IMAGE, PLAIN)["x"]
    assert np.argwhere(found[0, 0]).tolist() == [[0, 5]]


def _lying_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def _zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def _pickled() -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    return file.getvalue()


HUGE = (10**9, 10**9)

BROKEN = {
    "text.npy": (b"hello, this is no array", "is no array of numpy"),
    "empty.npy": (b"", "is no array of numpy"),
    "half.npy": (_lying_header((1, 3, 4, 6)) + b"abc", "truncated: 3 of 288 bytes"),
    "huge.npy": (_lying_header(HUGE), "float32 1000000000x1000000000, the model takes float32 1x3"),
    "pickle.npy": (_pickled(), "is object 1, the model takes float32"),
    "double.npy": (_lying_header((1, 3, 4, 6)).replace(b"<f4", b"<f8"), "is float64 1x3x4x6"),
    "text.npz": (b"hello", "is no .npz"),
    "huge.npz": (_zipped("x.npy", _lying_header(HUGE)), "huge.npz: x: input 'x' is float32 10000"),
    "other.npz": (_zipped("x.txt", b"hello"), "is no .npz"),
    "text.safetensors": (b"hello", "is no safetensors file"),
    "text.png": (b"hello", "is no image that can be read"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named(tmp_path: Path, name: str) -> None:
    """Nothing is unpickled, and nothing is allocated for what a header promises."""
    content, words = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_input(tmp_path / name, IMAGE, PLAIN)
    assert str(tmp_path / name) in str(caught.value) and words in str(caught.value)


def test_a_truncated_and_an_enormous_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"half\.png: is no image that can be read"):
        read_input(tmp_path / "half.png", IMAGE, PLAIN)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"a\.png: has more than 100 pixels"):
        read_input(tmp_path / "a.png", IMAGE, PLAIN)


def test_what_is_no_input_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.txt").touch()
    for path, words in (
        (tmp_path / "empty", "no file in this folder is an input"),
        (tmp_path / "x.txt", "x.txt: .txt is not read; known: .npy"),
        (tmp_path / "none.npy", "is no file and no folder"),
    ):
        with pytest.raises(InputError, match=words):
            input_files([path])
    for given, words in (
        ({"mean": [1.0, 2.0]}, "`mean`: 2 values for 3 channels"),
        ({"std": [0.0]}, "`std`: must not be 0"),
    ):
        with pytest.raises(InputError, match=words):
            normalising(3, **given)
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match="an image for 2 inputs"):
        read_input(tmp_path / "a.png", TWO, PLAIN)
    with pytest.raises(InputError, match="images go into 1x3xHxW or 1x1xHxW"):
        read_input(tmp_path / "a.png", (TensorSpec("x", (2, 3, 4, 4), torch.float32),), PLAIN)
