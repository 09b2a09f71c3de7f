"""Outputs are checked before the work: no planning must end at a folder that is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nptp_opt.errors import InputError
from nptp_opt.files import require_writable


def check_outputs(*outputs: Path | None, reads: Iterable[str | Path] = ()) -> None:
    """Raise InputError for an output that cannot be written, is named twice, or is an input.

    What is not asked for is None; of ``reads`` only what is a file counts. Nothing is changed.
    """
    inputs = {Path(path).resolve() for path in reads if Path(path).is_file()}
    seen: set[Path] = set()
    for path in outputs:
        if path is None:
            continue
        require_writable(path)
        place = path.resolve()
        if place in inputs:
            raise InputError(f"{path}: is read by this command; name another file to write")
        if place in seen and (place.is_file() or not place.exists()):
            raise InputError(f"{path}: is named for two outputs; give each a file of its own")
        seen.add(place)
