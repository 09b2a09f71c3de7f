"""Optimal non-penetrative tensor partitions for CNN inference on several small devices.

    import nptp_opt as nptp

    model = nptp.load_model("vgg16", (1, 3, 224, 224))
    plan = nptp.solve(model, nptp.Cluster.from_file("cluster.toml"))
    assert nptp.verify(plan, model).ok

Names are imported when they are first asked for (PEP 562), so that importing the package costs
nothing and a device's process loads what it needs alone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nptp_opt.api import (
        compare,
        deploy,
        load_model,
        load_plan,
        run,
        save_plan,
        solve,
        solve_layer,
        verify,
    )
    from nptp_opt.cluster import Cluster, Device, NetworkLink
    from nptp_opt.deployment.answers import Answer, ClosedError, QueueFullError
    from nptp_opt.deployment.service import Service
    from nptp_opt.errors import (
        ExecutionError,
        InfeasibleError,
        InputError,
        NoSolutionError,
        NptpError,
        SolverError,
        UnsupportedError,
        VerificationError,
    )
    from nptp_opt.geometry import Tile
    from nptp_opt.layer.limits import Limits
    from nptp_opt.layer.problem import LayerProblem, LayerShape
    from nptp_opt.layer.result import LayerResult, Status
    from nptp_opt.network.load import LoadedModel
    from nptp_opt.plan.model import Plan
    from nptp_opt.planner.options import PlanOptions
    from nptp_opt.runtime.launcher.report import RunReport
    from nptp_opt.verification.torch_check import Report

_HOMES = {
    "api": "compare deploy load_model load_plan run save_plan solve solve_layer verify",
    "cluster": "Cluster Device NetworkLink",
    "deployment.answers": "Answer ClosedError QueueFullError",
    "deployment.service": "Service",
    "errors": "ExecutionError InfeasibleError InputError NoSolutionError NptpError SolverError "
    "UnsupportedError VerificationError",
    "geometry": "Tile",
    "layer.problem": "LayerProblem LayerShape",
    "layer.limits": "Limits",
    "layer.result": "LayerResult Status",
    "network.load": "LoadedModel",
    "plan.model": "Plan",
    "planner.options": "PlanOptions",
    "runtime.launcher.report": "RunReport",
    "verification.torch_check": "Report",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Answer",
    "ClosedError",
    "Cluster",
    "Device",
    "ExecutionError",
    "InfeasibleError",
    "InputError",
    "LayerProblem",
    "LayerResult",
    "LayerShape",
    "Limits",
    "LoadedModel",
    "NetworkLink",
    "NoSolutionError",
    "NptpError",
    "Plan",
    "PlanOptions",
    "QueueFullError",
    "Report",
    "RunReport",
    "Service",
    "SolverError",
    "Status",
    "Tile",
    "UnsupportedError",
    "VerificationError",
    "compare",
    "deploy",
    "load_model",
    "load_plan",
    "run",
    "save_plan",
    "solve",
    "solve_layer",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
