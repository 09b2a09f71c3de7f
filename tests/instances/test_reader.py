"""Layer instance files: what is refused before any table is built."""

from __future__ import annotations

import pytest

from nptp_opt.errors import InputError
from nptp_opt.instances.reader import MOST_AXIS, layer_problem_from_json, layer_problem_to_json
from tests.builders import make_cluster, make_problem

DATA = layer_problem_to_json(make_problem(make_cluster([1.0, 2.0])))


@pytest.mark.parametrize("height", [10**9, MOST_AXIS + 1])
def test_huge_maps_are_refused_at_once(height: int) -> None:
    """Bug: a map of 10^9 x 10^9 hung, as the cost tables grow with the square of an axis."""
    layer = DATA["layer"] | {"in_height": height}
    with pytest.raises(InputError, match=r"big\.json: layer: the output map is .* 4096 x 4096"):
        layer_problem_from_json(DATA | {"layer": layer}, "big.json")


def test_the_largest_map_is_read() -> None:
    layer = DATA["layer"] | {"in_height": MOST_AXIS}
    assert layer_problem_from_json(DATA | {"layer": layer}).height == MOST_AXIS
