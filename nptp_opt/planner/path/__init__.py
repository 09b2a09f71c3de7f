"""Shortest paths through (cut, partition) states."""
