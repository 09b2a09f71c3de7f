"""Lower bounds that hold for every plan of a network on a cluster."""

from nptp_opt.bound.latency import compute_bound, latency_bound, read_pixels

__all__ = ["compute_bound", "latency_bound", "read_pixels"]
