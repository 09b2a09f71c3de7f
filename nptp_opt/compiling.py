"""Numba's options, in one place: how functions over arrays are compiled.

Compiled code counts references to arrays, at every call, view and tuple that holds some, by atomic
operations; in loops that do little else that takes several times as long as all the rest. What
borrows its arrays, makes none and returns none needs no counting, and gets none as ``inner``: numba
refuses to compile such a function where it makes an array. Returning an array that was given would
be an error that nobody sees.
"""

from __future__ import annotations

from typing import Any

import numba

compiled: Any = numba.njit(cache=True, nogil=True)
"""What is called from Python, or makes arrays."""


def _without_counting() -> Any:
    """Numba's own library uses the option, but it is no public one: a numba without it compiles
    the same functions slower."""
    decorate = numba.njit(cache=True, nogil=True, _nrt=False)
    try:
        decorate(lambda: None)
    except (KeyError, TypeError):
        return compiled
    return decorate


inner: Any = _without_counting()
"""What borrows arrays, makes none, and returns none: it counts no references."""
