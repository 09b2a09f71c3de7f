"""Which functions count references to arrays, and what a numba without the option does."""

from __future__ import annotations

import importlib
from typing import Any

import numba
import numpy as np
import pytest

from nptp_opt import compiling


def _made(n: int) -> Any:
    return np.zeros(n)


def _also_made(n: int) -> Any:  # numba's cache of compiled functions does not look at options
    return np.zeros(n)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
def test_a_function_that_makes_an_array_is_refused_as_inner() -> None:
    """So none is compiled by mistake without the counting that it needs."""
    assert compiling.compiled(_made)(3).tolist() == [0.0] * 3
    with pytest.raises(numba.core.errors.NumbaError):
        compiling.inner(_also_made)(3)


def test_a_numba_without_the_option_compiles_the_same_functions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    njit = numba.njit

    def without(**options: Any) -> Any:
        if "_nrt" in options:
            return lambda _: (_ for _ in ()).throw(KeyError("Unrecognized options"))
        return njit(**options)

    monkeypatch.setattr(numba, "njit", without)
    try:
        again = importlib.reload(compiling)
        assert again.inner is again.compiled
        assert again.inner(_made)(2).tolist() == [0.0, 0.0]
    finally:
        monkeypatch.undo()
        importlib.reload(compiling)
    assert compiling.inner is not compiling.compiled
