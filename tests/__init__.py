"""One thread per process, also in those that a test starts: several tests run at once, and threads
that spin while they wait for each other take half of all time. Read where numpy and torch load."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
