"""A story: three formulations compared for a paper.

A mixed-integer programme over strips, one over columns, and exact cover, each by HiGHS, on layers
that nobody picked: every so-many-th easy one of the library on four devices. What goes into the
paper are the tables, the raw rows, and a results file that others can go on with. A notebook-style
script: the cells are marked by ``# %%`` and can be run one by one.
"""

# %% What is compared. Every list is crossed with every other.
import sys
from pathlib import Path

import nptp_opt as nptp
from nptp_opt.comparison.records import load_records
from nptp_opt.comparison.store import Store
from nptp_opt.comparison.tables import tables, to_csv, to_markdown
from nptp_opt.instances import library

results = Path(sys.argv[1] if len(sys.argv) > 1 else "formulations.sqlite")
every = int(sys.argv[2]) if len(sys.argv) > 2 else 4
names = [entry.name for entry in library.select(["layer", "n4", "easy"])][::every]
spec = {
    "instances": names,
    "formulations": ["strip", "column", "cover"],
    "solvers": ["highs"],
    "time_limits_s": [20.0],
}

# %% Each run is a process of its own; what is in the file already is not run again.
counts = nptp.compare(spec, results, workers=1, progress=print)
print(counts)

# %% The tables as Markdown, one line per run as CSV. `nptp-opt report` makes a page of them.
with Store(results) as store:
    records = load_records(store)
results.with_suffix(".md").write_text(to_markdown(tables(records)), encoding="utf-8")
results.with_suffix(".csv").write_text(to_csv(records), encoding="utf-8")

# %% Whether the shape of the cuts matters: strips against exact cover, which has all shapes.
by = {(r.row["instance"], r.row["method"]): r.row["value_s"] for r in records}
for name in names:
    print(f"{name}: strips {by[name, 'strip'] / by[name, 'cover']:.3f} times cover")
assert all(record.row["fault"] is None for record in records)
