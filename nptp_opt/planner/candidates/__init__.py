"""Partitions that a search starts from."""
