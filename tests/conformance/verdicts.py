"""What becomes of a foreign test case: imported, planned on up to four devices, executed, compared.

A suite turns its cases into ``Case`` and calls ``judge`` on each. There are five verdicts:

=========  =====================================================================================
right      every output of the executed plan is what the suite expects
refused    an InputError whose message names an operator and gives a reason
unclear    refused too, but without an operator's name, or for a reason that is known to be untrue
wrong      an output differs: the one that must never happen
traceback  any other exception
=========  =====================================================================================
"""

from __future__ import annotations

import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from nptp_opt.errors import InputError
from nptp_opt.network.load import LoadedModel
from nptp_opt.network.ref import ModelRef
from nptp_opt.plan.model import Plan
from nptp_opt.planner import PlanOptions, plan_network
from nptp_opt.verification.interpreter import replayed_outputs
from tests.builders import make_cluster

KINDS = ("right", "refused", "unclear", "wrong", "traceback")
DEVICES = 4

NO_REASONS = ("not in this place or with these arguments",)
"""Words that stand where a reason should."""

_OPERATOR = re.compile(r"\bop ['\"]?\w")


@dataclass(frozen=True)
class Case:
    """One case of a suite: how it is imported, its input, and the outputs that are right.

    ``operators`` are names of which a refusal may mention one instead of "op NAME"; ``planner``
    cuts the maps. ``behind`` is the same with a map to be cut before it, for a model without one.
    """

    name: str
    load: Callable[[], LoadedModel]
    x: torch.Tensor
    expected: Sequence[torch.Tensor]
    operators: tuple[str, ...] = ()
    behind: Callable[[], LoadedModel] | None = None
    rtol: float = 1e-4
    planner: str = "strip-equal"


@dataclass(frozen=True)
class Verdict:
    """``detail`` is the message of a refusal, the difference, or where an exception came from."""

    name: str
    kind: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind:9} {self.name}: {self.detail}"


def judge(case: Case) -> Verdict:
    """The verdict on one case; raises nothing but what ends the process."""
    try:
        with torch.no_grad():
            fault = _difference(_executed(case), case)
    except InputError as error:
        clear = is_clear(str(error), case.operators)
        return Verdict(case.name, "refused" if clear else "unclear", str(error))
    except Exception as error:  # noqa: BLE001 - the point is which ones there are
        return Verdict(case.name, "traceback", _origin(error))
    return Verdict(case.name, "wrong" if fault else "right", fault)


def is_clear(message: str, operators: Iterable[str]) -> bool:
    """Whether a refusal names an operator and gives more than a set phrase as its reason."""
    named = _OPERATOR.search(message) or any(
        re.search(rf"\b{re.escape(name)}\b", message) for name in operators
    )
    return bool(named) and not any(words in message for words in NO_REASONS)


def _executed(case: Case) -> list[torch.Tensor]:
    """The outputs of the case's plan as its devices compute them."""
    model = case.load()
    if not model.network.spatial and case.behind is not None:
        model = case.behind()
    plan = planned(model, case)
    x = case.x.reshape(model.network.shapes[model.network.inputs[0]])
    found = replayed_outputs(plan, model.weights(), x, "float32")
    return [found[name] for name in model.imported.results]


def planned(model: LoadedModel, case: Case) -> Plan:
    """The case on four equal devices, on fewer where its maps have fewer pixels."""
    ref, options = ModelRef(case.name, tuple(case.x.shape)), PlanOptions(case.planner)
    pixels = max((layer.height * layer.width for layer in model.network.spatial), default=1)
    cluster = make_cluster([1.0] * min(DEVICES, pixels))
    return plan_network(ref, model.network, cluster, options)


def _difference(found: Sequence[torch.Tensor], case: Case) -> str:
    """How the outputs differ from what is expected; empty where they do not."""
    if len(found) != len(case.expected):
        return f"{len(found)} outputs instead of {len(case.expected)}"
    faults = (_unlike(a, b, case.rtol) for a, b in zip(found, case.expected, strict=True))
    return next((fault for fault in faults if fault), "")


def _unlike(found: torch.Tensor, expected: torch.Tensor, rtol: float) -> str:
    """Sizes of one are left out of shapes: a plan's maps have them where a model's need not."""
    sizes = [[n for n in each.shape if n != 1] for each in (found, expected)]
    if sizes[0] != sizes[1]:
        return f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    found, expected = found.double().flatten(), expected.double().flatten()
    finite = expected[expected.isfinite()].abs()
    atol = rtol * max(float(finite.max()) if finite.numel() else 0.0, 1e-3)
    if torch.allclose(found, expected, rtol, atol, equal_nan=True):
        return ""
    return f"off by {float((found - expected).abs().nan_to_num(torch.inf).max()):.3g}"


def _origin(error: BaseException) -> str:
    """An exception in one line, with the last place in this package that it passed."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "nptp_opt" in f.filename]
    place = f" ({frames[-1].filename.rpartition('nptp_opt/')[2]}:{frames[-1].name})"
    return (
        f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}{place if frames else ''}"
    )


def counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """How many there are of each kind."""
    found = Counter(verdict.kind for verdict in verdicts)
    return {kind: found[kind] for kind in KINDS}


def table(verdicts: Sequence[Verdict]) -> str:
    """Counts in one line, then every verdict that is neither right nor a clear refusal."""
    head = ", ".join(f"{number} {kind}" for kind, number in counts(verdicts).items())
    bad = [str(verdict) for verdict in verdicts if verdict.kind not in ("right", "refused")]
    return "\n".join([f"{len(verdicts)} cases: {head}", *bad])
