"""Optimal non-penetrative tensor partitions for CNN inference on several small devices."""

__version__ = "0.1.0"
