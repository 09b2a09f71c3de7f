"""Layer instance files: what is refused before any table is built."""

from __future__ import annotations

import pytest

from nptp_opt.errors import InputError
from nptp_opt.instances.reader import MOST_CUTS, layer_problem_from_json, layer_problem_to_json
from tests.builders import make_cluster, make_problem

DATA = layer_problem_to_json(make_problem(make_cluster([1.0, 2.0])))


@pytest.mark.parametrize("height", [10**7, MOST_CUTS + 1])
def test_huge_maps_are_refused_at_once(height: int) -> None:
    """Bug: a map of 10^9 x 10^9 hung, as the cost tables grow with the square of an axis."""
    layer = DATA["layer"] | {"in_height": height}
    with pytest.raises(InputError, match=r"big\.json: .* set cut_step to at least"):
        layer_problem_from_json(DATA | {"layer": layer}, "big.json")


def test_the_largest_map_is_read() -> None:
    layer = DATA["layer"] | {"in_height": MOST_CUTS}
    assert layer_problem_from_json(DATA | {"layer": layer}).height == MOST_CUTS
