"""Lower bounds that hold for every plan of a network on a cluster."""

from nptp_opt.bound.clock import clock_bound
from nptp_opt.bound.reads import read_pixels

__all__ = ["clock_bound", "read_pixels"]
