"""A ``MilpModel`` as a model file, MPS (also what CBC reads) or LP: HiGHS writes both.

Numbers are written with 17 digits, so what is read back is the same model.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

from nptp_opt.errors import SolverError
from nptp_opt.solvers.highs import failed, highs_lp, new_highs
from nptp_opt.solvers.model import MilpModel

ModelFile = Literal["mps", "lp"]


def model_text(model: MilpModel, kind: ModelFile, *, short_names: bool = False) -> str:
    """The model's file; ``short_names`` writes C0, C1 ... and R0, R1 ... in place of its names.

    Raises SolverError where HiGHS does not write it.
    """
    lp = highs_lp(model)
    lp.model_name_ = model.name or "model"
    lp.col_names_ = [f"C{j}" for j in range(model.n_columns)] if short_names else model.column_names
    lp.row_names_ = [f"R{r}" for r in range(model.n_rows)] if short_names else model.row_names
    solver = new_highs()
    with tempfile.TemporaryDirectory(prefix="nptp-model-") as folder:
        path = Path(folder) / f"model.{kind}"  # the suffix tells HiGHS what to write
        if failed(solver.passModel(lp)) or failed(solver.writeModel(str(path))):
            raise SolverError(f"solver 'highs' does not write the model as {kind}; try another")
        return path.read_text()
