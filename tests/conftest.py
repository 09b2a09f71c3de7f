"""Shared settings: one thread per process, and hypothesis runs the same examples every time."""

import os

from hypothesis import settings

# Before numpy and torch are imported, and for every process that a test starts: several tests run
# at once, and threads that spin while they wait for each other cost half of all time.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

settings.register_profile("nptp", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("nptp")
