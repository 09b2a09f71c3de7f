"""Candidates whose devices stay where they are in another partition."""

from __future__ import annotations

import itertools

import pytest

from nptp_opt.evaluate.assemble import Choice
from nptp_opt.geometry import Tile
from nptp_opt.planner.candidates.catalogue import aligned_templates, distinct, used_templates
from nptp_opt.planner.candidates.templates import Template, TemplateStack, columns, strips
from tests.builders import conv_chain, make_cluster


def common(one: Template, other: Template) -> float:
    """Area that devices hold in both."""
    total = 0.0
    for i in one.boxes.keys() & other.boxes.keys():
        (a0, a1, b0, b1), (c0, c1, d0, d1) = one.boxes[i], other.boxes[i]
        total += max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
    return total


def test_devices_of_one_kind_change_places_to_keep_the_most() -> None:
    """Against every permutation of the four equal devices behind the source."""
    cluster = make_cluster((1.0,) * 5)
    share = dict.fromkeys(range(5), 1.0)
    anchor = columns("a", [(3, 1), (0, 4, 2)], share, transpose=False)
    template = columns("t", [(0, 1, 2), (3, 4)], share, transpose=True)
    found = next(aligned_templates(cluster, [template], anchor))
    best = max(
        common(Template("p", {0: template.boxes[0], **dict(zip(p, boxes, strict=True))}), anchor)
        for boxes in [[template.boxes[i] for i in range(1, 5)]]
        for p in itertools.permutations(range(1, 5))
    )
    assert common(found, anchor) == pytest.approx(best)
    assert sorted(found.boxes.values()) == sorted(template.boxes.values())
    assert found.boxes[0] == template.boxes[0], "the source is a kind of its own"


def test_families_are_dealt_out_in_the_anchor_s_order() -> None:
    """Unequal devices, none of which can change places with another."""
    cluster = make_cluster((1.0, 2.0, 3.0))
    anchor = strips("a", (2, 0, 1), (3.0, 1.0, 2.0), vertical=False)
    found = aligned_templates(cluster, [], anchor)
    assert any(common(template, anchor) == pytest.approx(1.0) for template in found)


def test_an_odd_cut_before_a_stride_stays_a_candidate() -> None:
    """Of a partition in use, the template whose cuts do not snap was always taken for the other."""
    network = conv_chain((1, 3, 8, 8), [{"channels": 4}, {"channels": 4, "stride": 2}])
    odd = {0: Tile(0, 3, 0, 8), 1: Tile(3, 8, 0, 8)}
    used = used_templates([Choice(network.spatial[:1], odd)])
    kept = distinct(used, network.spatial)
    assert [template.snapped for template in kept] == [True, False]
    assert TemplateStack(kept, 2).placed((8, 8), (2, 2))[:, 0, 1].tolist() == [4, 3]
