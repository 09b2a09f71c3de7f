"""Formulations and solvers side by side, in a results file that a second run goes on with.

A notebook-style script: the cells are marked by ``# %%`` and can be run one by one.
"""

# %% What is compared: every pair of formulation and solver, on one layer.
import sys
from pathlib import Path

import nptp_opt as nptp

here = Path(__file__).parent
spec = {
    "instances": [str(here / "vgg16-conv3_2-n4.json")],
    "formulations": ["strip", "column-dp", "guillotine-dp"],
    "solvers": ["highs"],
    "time_limits_s": [20.0],
}
results = Path(sys.argv[1] if len(sys.argv) > 1 else "formulations.sqlite")

# %% Each run is a process of its own; what is in the file already is not run again.
counts = nptp.compare(spec, results, workers=1, progress=print)
print(counts)

# %% Tables: `nptp-opt report formulations.sqlite --html report.html`
assert counts["finished"] == counts["runs"]
