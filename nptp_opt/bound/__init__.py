"""Lower bounds that hold for every plan of a network on a cluster."""

from nptp_opt.bound.clock import clock_bound
from nptp_opt.bound.latency import compute_bound, latency_bound, read_pixels

__all__ = ["clock_bound", "compute_bound", "latency_bound", "read_pixels"]
