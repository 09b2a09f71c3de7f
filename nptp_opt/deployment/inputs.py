"""Inputs from files: arrays (.npy, .npz, .safetensors) and images, one by one.

What a file declares is held against the model before its data is read: a header may promise more
than memory has.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open

from nptp_opt.deployment.normalising import Normalising
from nptp_opt.errors import InputError, last_lines
from nptp_opt.network.ref import spelled
from nptp_opt.network.signature import TensorSpec, type_name

Array = np.ndarray[Any, Any]
Specs = Sequence[TensorSpec]

IMAGES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
)
ARRAYS = frozenset((".npy", ".npz", ".safetensors"))

SHORTER = frozenset(("float16", "bfloat16"))
"""Types whose every value is a float32, as which a model of such a type is computed."""


def input_files(paths: Iterable[Path]) -> list[Path]:
    """The files, and those of folders that can be read, by name.

    Raises InputError for what is not there, for a file of another kind, and for a folder without
    any.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if _kind(each) is not None)
            if not inside:
                raise InputError(f"{path}: no file in this folder is an input ({_known()})")
            found += inside
            continue
        if not path.is_file():
            raise InputError(f"{path}: is no file and no folder")
        if _kind(path) is None:
            raise InputError(f"{path}: {path.suffix or 'no suffix'} is not read; known: {_known()}")
        found.append(path)
    return found


def _kind(path: Path) -> frozenset[str] | None:
    return next((kind for kind in (ARRAYS, IMAGES) if path.suffix.lower() in kind), None)


def _known() -> str:
    return ", ".join((*sorted(ARRAYS), *sorted(IMAGES)))


def has_images(files: Iterable[Path]) -> bool:
    return any(_kind(path) is IMAGES for path in files)


def read_input(path: Path, specs: Specs, prepare: Normalising | None) -> dict[str, Array]:
    """The model's inputs by name; an image is resized, and made the model's input by ``prepare``.

    Raises InputError naming the file for what is broken or does not fit ``specs``.
    """
    try:
        suffix = path.suffix.lower()
        if suffix in IMAGES:
            assert prepare is not None
            spec = image_spec(specs)
            return {spec.name: read_image(path, spec, prepare)}
        return READERS[suffix](path, specs)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or last_lines(error)}") from None


# -- arrays ------------------------------------------------------------------------------------


def _read_npy(path: Path, specs: Specs) -> dict[str, Array]:
    with path.open("rb") as file:
        return {_only(specs, path).name: _read_array(file, _only(specs, path), str(path))}


def _only(specs: Specs, path: Path) -> TensorSpec:
    if len(specs) > 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputError(f"{path}: one array for {len(specs)} inputs ({names}): use .npz")
    return specs[0]


def _read_array(file: IO[bytes], spec: TensorSpec, where: str) -> Array:
    header = np.lib.format
    try:
        version = header.read_magic(file)
        read = header.read_array_header_1_0 if version == (1, 0) else header.read_array_header_2_0
        shape, in_columns, dtype = read(file)
    except (ValueError, SyntaxError) as error:
        raise InputError(f"{where}: is no array of numpy: {last_lines(error)}") from None
    _check(where, spec, shape, dtype.name)
    size = spec.elements * dtype.itemsize
    data = file.read(size)
    if len(data) < size:
        raise InputError(f"{where}: truncated: {len(data)} of {size} bytes are there")
    order: Literal["F", "C"] = "F" if in_columns else "C"
    values = np.frombuffer(bytearray(data), dtype=dtype).reshape(shape, order=order)
    return np.ascontiguousarray(values, dtype=type_name(spec.dtype)).reshape(spec.shape)


def _check(where: str, spec: TensorSpec, shape: Sequence[int], dtype: str) -> None:
    """Raise InputError for another shape or type; a batch of one may be left out, as in samples."""
    wanted = type_name(spec.dtype)
    shapes = {spec.shape, spec.shape[1:] if spec.shape[:1] == (1,) else spec.shape}
    widened = dtype in SHORTER and wanted == "float32"
    if tuple(shape) not in shapes or not (widened or dtype == wanted):
        raise InputError(
            f"{where}: input {spec.name!r} is {dtype} {spelled(tuple(shape)) or 'scalar'}, "
            f"the model takes {wanted} {spelled(spec.shape)}"
        )


def _read_npz(path: Path, specs: Specs) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            found = {}
            for name, spec in _matched(names, specs, path).items():
                with archive.open(f"{name}.npy") as file:
                    found[spec.name] = _read_array(file, spec, f"{path}: {name}")
            return found
    except (zipfile.BadZipFile, EOFError, KeyError, NotImplementedError) as error:
        raise InputError(f"{path}: is no .npz of numpy: {last_lines(error)}") from None
    except Exception as error:  # zlib has an error of its own
        if type(error).__module__ == "zlib":
            raise InputError(f"{path}: is damaged: {error}") from None
        raise


def _matched(names: Sequence[str], specs: Specs, path: Path) -> dict[str, TensorSpec]:
    """Which array is which input: by name; a single one may have any name."""
    known = {spec.name: spec for spec in specs}
    if len(names) == len(specs) == 1:
        return {names[0]: specs[0]}
    for name in names:
        if name not in known:
            raise InputError(
                f"{path}: the model has no input {name!r}; it takes {', '.join(known)}"
            )
    return {name: known[name] for name in names}


def _read_safetensors(path: Path, specs: Specs) -> dict[str, Array]:
    try:
        with safe_open(path, framework="pt") as file:
            found = {}
            for name, spec in _matched(list(file.keys()), specs, path).items():
                tensor = file.get_tensor(name)
                _check(f"{path}: {name}", spec, tuple(tensor.shape), type_name(tensor.dtype))
                found[spec.name] = tensor.to(spec.dtype).reshape(spec.shape).numpy()
            return found
    except SafetensorError as error:
        raise InputError(f"{path}: is no safetensors file: {last_lines(error)}") from None


READERS: dict[str, Callable[[Path, Specs], dict[str, Array]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
}


# -- images ------------------------------------------------------------------------------------


def image_spec(specs: Specs) -> TensorSpec:
    """The input that an image can be; raises InputError where there is none, or another beside."""
    if len(specs) > 1:
        raise InputError(f"an image for {len(specs)} inputs: give arrays by name in an .npz")
    (spec,) = specs
    if len(spec.shape) != 4 or spec.shape[0] != 1 or spec.shape[1] not in (1, 3):
        raise InputError(
            f"input {spec.name!r} is {spelled(spec.shape)}: images go into 1x3xHxW or 1x1xHxW; "
            "give arrays, or plan with such an input"
        )
    return spec


def read_image(path: Path, spec: TensorSpec, prepare: Normalising) -> Array:
    """The first frame, upright, resized (bilinear) to the model's rows and columns; normalised,
    unless the network takes uint8: then that is its own business."""
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise InputError(
            f"{path}: images need Pillow, which is not installed: pip install 'nptp-opt[images]'"
        ) from None
    _, channels, rows, columns = spec.shape
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB" if channels == 3 else "L")
                resized = upright.resize((columns, rows), Image.Resampling.BILINEAR)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise InputError(f"{path}: has more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: is no image that can be read: {last_lines(error)}") from None
    if spec.takes_bytes:
        raw = np.asarray(resized, dtype=np.uint8).reshape(rows, columns, channels)
        return np.ascontiguousarray(raw.transpose(2, 0, 1))[None]
    pixels = np.asarray(resized, dtype=np.float32).reshape(rows, columns, channels)
    mean, std = (np.asarray(each, dtype=np.float32) for each in (prepare.mean, prepare.std))
    values = (pixels * np.float32(prepare.scale) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1))[None]
