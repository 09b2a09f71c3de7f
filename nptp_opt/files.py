"""Reading and writing files: strict models, one-line errors, writes that leave no half file."""

from __future__ import annotations

import errno
import json
import os
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from nptp_opt.errors import InputError, unknown_name

MOST_EXACT = 2**53
"""Largest whole number in a file: up to here floating-point numbers tell neighbours apart."""

MOST_PREFIX = 40
"""Characters of a file's name in its temporary neighbour's, which must not become too long."""


class Strict(BaseModel):
    """Frozen model that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    replaced_keys: ClassVar[tuple[str, ...]] = ()
    """Keys that the file may have, too: its reader puts others in their place."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        """Before anything else: a key that is misspelt is often missing under its right name."""
        if isinstance(data, dict) and cls.model_config["extra"] == "forbid":
            known = [field.alias or name for name, field in cls.model_fields.items()]
            known += cls.model_fields if cls.model_config.get("validate_by_name") else []
            for key in data:
                if key not in known:
                    others = [name for name in cls.replaced_keys if name != key]
                    raise ValueError(unknown_name("key", str(key), [*known, *others]))
        return data

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without the values of cached properties, which may no longer hold."""
        copy = super().model_copy(update=update, deep=deep)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy


ONE, SEVERAL = "[one]", "[several]"
"""Tags of a value that may be a list of itself: they are no part of a field's name."""


def one_or_several(data: Any) -> str:
    """Which of the two a list of numbers is, or a list of such lists."""
    several = isinstance(data, (list, tuple)) and bool(data) and isinstance(data[0], (list, tuple))
    return SEVERAL if several else ONE


def explain(error: ValidationError, where: str, data: Any = None) -> InputError:
    """The first fault of a pydantic error as one line: file, field, what is wrong.

    ``data`` is what was read: of a list's entry that has a name, the name is said, too.
    """
    first = error.errors()[0]
    field = field_at(first["loc"], data)
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    text = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], (bool, int, float, str)) and first["type"] != "value_error":
        text += f", got {first['input']!r}"
    if first["type"] in ("model_type", "dict_type"):
        text = "must be an object (a table, in TOML)"
    if first["type"] in ("tuple_type", "list_type"):
        text = "must be a list, in brackets"
        if isinstance(first["input"], dict):
            text = f"must be a list of tables: [[{field}]] in TOML"
    return InputError(": ".join(filter(None, (where, field, text + more))))


def field_at(location: tuple[int | str, ...], data: Any) -> str:
    """A field's place with the names on the way to it: ``device.1 ('pi-1').gflops``."""
    return ".".join(_steps_to(location, data))


def _steps_to(location: tuple[int | str, ...], data: Any) -> Iterator[str]:
    for part in location:
        if part in (ONE, SEVERAL):
            continue
        try:
            data = data[part]
        except (TypeError, LookupError):
            data = None
        name = data.get("name") if isinstance(part, int) and isinstance(data, dict) else None
        yield f"{part} ({name!r})" if isinstance(name, str) else str(part)


def read_text(path: Path) -> str:
    """Content of a UTF-8 text file; raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None


def load_json(path: Path) -> Any:
    """Parsed JSON file; raises InputError with file, line and column."""
    text = read_text(path)
    try:
        return json.loads(
            text, parse_constant=_no_constant, parse_int=_exact, object_pairs_hook=_distinct
        )
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not usable JSON: {error}") from None


def load_toml(path: Path) -> dict[str, Any]:
    """Parsed TOML file; raises InputError."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _exact(digits: str) -> int:
    if len(digits) > 1 + len(str(MOST_EXACT)) or abs(int(digits)) > MOST_EXACT:
        shown = digits if len(digits) < 24 else f"{digits[:20]}..."
        raise ValueError(f"the whole number {shown} is above {MOST_EXACT}, the largest read")
    return int(digits)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two values under one key every reader takes its own."""
    made = dict(pairs)
    if len(made) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        doubled = next(key for key, count in counts.items() if count > 1)
        raise ValueError(f"the key {doubled!r} is there twice in one object")
    return made


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``: beside it first, then renamed, so that no half file is left."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """As ``write_text``, for bytes; raises InputError when the place cannot be written.

    A link is followed; what is no regular file (a pipe, a device) is written directly.
    """
    beside: str | None = None
    try:
        path = _resolve(path)
        if _written_directly(path):
            path.write_bytes(content)
            return
        handle, beside = _beside(path)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(beside).chmod(0o666 & ~_umask())
        Path(beside).replace(path)
    except OSError as error:
        if beside is not None:
            Path(beside).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def require_writable(path: Path) -> None:
    """Raise InputError where ``write_bytes`` would; what is there stays, and nothing is left."""
    try:
        place = _resolve(path)
        if place.is_dir():
            raise InputError(f"{path}: is a folder; name a file")
        if not place.parent.is_dir():
            raise InputError(f"{path}: the folder {place.parent} does not exist; create it first")
        if _written_directly(place):
            _require_access(place)
            return
        handle, beside = _beside(place)
        os.close(handle)
        Path(beside).unlink()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written: {error.strerror}; name another file"
        ) from None


def _resolve(path: Path) -> Path:
    try:
        return path.resolve()
    except RuntimeError:  # older Pythons' word for links that lead to themselves
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


def _written_directly(place: Path) -> bool:
    """Whether it is there and neither file nor folder: a pipe, a device."""
    return place.exists() and not (place.is_file() or place.is_dir())


def _require_access(place: Path) -> None:
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _beside(place: Path) -> tuple[int, str]:
    """An open temporary file in the same folder, and its path."""
    if len(os.fsencode(place.name)) > os.pathconf(place.parent, "PC_NAME_MAX"):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return tempfile.mkstemp(dir=place.parent, prefix=f".{place.name[:MOST_PREFIX]}.")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
