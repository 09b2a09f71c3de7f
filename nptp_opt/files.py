"""Reading and writing files: strict models, one-line errors, writes that leave no half file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from nptp_opt.errors import InputError


class Strict(BaseModel):
    """Frozen model that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, without the values of cached properties, which may no longer hold."""
        copy = super().model_copy(update=update, deep=deep)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy


def explain(error: ValidationError, where: str) -> InputError:
    """The first fault of a pydantic error as one line: file, field, what is wrong."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"])
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    text = first["msg"].removeprefix("Value error, ")
    if first["type"] in ("model_type", "dict_type"):
        text = "must be an object (a table, in TOML)"
    if first["type"] in ("tuple_type", "list_type"):
        text = "must be a list, in brackets"
    return InputError(": ".join(filter(None, (where, field, text + more))))


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
        return json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}: not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not usable JSON: {error}") from None


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``: beside it first, then renamed, so that no half file is left."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """As ``write_text``, for bytes; raises InputError when the place cannot be written.

    A link is followed; what is no regular file (a pipe, a device) is written directly.
    """
    beside: str | None = None
    try:
        path = path.resolve()
        if path.exists() and not (path.is_file() or path.is_dir()):
            path.write_bytes(content)
            return
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(beside).chmod(0o666 & ~_umask())
        Path(beside).replace(path)
    except OSError as error:
        if beside is not None:
            Path(beside).unlink(missing_ok=True)
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
