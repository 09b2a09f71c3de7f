"""Shared settings: hypothesis runs the same examples every time, without a deadline."""

from hypothesis import settings

settings.register_profile("nptp", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("nptp")
