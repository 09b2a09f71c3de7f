"""Candidates: the partitions in use."""

from __future__ import annotations

from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Tile
from nptp_opt.planner.candidates.catalogue import distinct, used_templates
from nptp_opt.planner.candidates.templates import TemplateStack
from tests.builders import conv_chain


def test_an_odd_cut_before_a_stride_stays_a_candidate() -> None:
    """Of a partition in use, the template whose cuts do not snap was always taken for the other."""
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}, {"channels": 4, "stride": 2}])
    odd = {0: Tile(0, 3, 0, 8), 1: Tile(3, 8, 0, 8)}
    used = used_templates([Choice(network.spatial[:1], odd)])
    kept = distinct(used, network.spatial)
    assert [template.snapped for template in kept] == [True, False]
    assert TemplateStack(kept, 2).placed((8, 8), (2, 2))[:, 0, 1].tolist() == [4, 3]
