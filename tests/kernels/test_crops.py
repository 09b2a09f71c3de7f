"""Rectangles are cut out of what is held, and put where they belong."""

import torch

from nptp_opt.geometry import EMPTY, Tile
from nptp_opt.kernels import crop, paste

HELD = Tile(2, 5, 1, 5), torch.arange(12.0).reshape(1, 1, 3, 4)
"""Rows 2 to 4 and columns 1 to 4 of a map."""


def test_a_crop_is_a_view_on_the_maps_indices():
    part = crop(HELD, Tile(3, 5, 2, 4))
    assert part.tolist() == [[[[5.0, 6.0], [9.0, 10.0]]]]
    assert part.untyped_storage().data_ptr() == HELD[1].untyped_storage().data_ptr()


def test_an_empty_crop_has_no_rows_and_no_columns():
    assert crop(HELD, EMPTY).shape == (1, 1, 0, 0)
    assert crop(HELD, Tile(3, 3, 1, 5)).shape == (1, 1, 0, 0)


def test_paste_writes_what_lies_within_and_nothing_else():
    """Of the two parts one lies half outside, the other altogether; the rest stays NaN."""
    whole = torch.full((1, 1, 2, 2), float("nan"))
    paste([HELD, (Tile(7, 9, 0, 2), torch.ones(1, 1, 2, 2))], (Tile(4, 6, 4, 6), whole))
    assert whole[0, 0, 0, 0] == 11.0
    assert whole.isnan().sum() == 3
