"""torchvision's models, on torch builds beside which the registry's wheel does not import.

torchvision 0.2x registers fake kernels for its compiled ops at import. The wheel's compiled half is
built for CUDA; beside a CPU-only torch it does not load, the ops have no schema, and the import
fails with "operator torchvision::nms does not exist". No model here calls these ops, so naming
their schemas is enough; that has to be done before anything imports torchvision, a user's own
module included.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nptp_opt.errors import InputError, last_lines, unknown_name

if TYPE_CHECKING:
    import torch

_SCHEMAS = ("nms", "qnms")
_keep: list[Any] = []
"""Libraries that define ops; the ops go when they are collected."""


_REGISTERED = re.compile(
    r"^@register_model\((?:name=\"(?P<name>\w+)\")?\)\n(?:.*\n)*?def (?P<function>\w+)\(",
    re.MULTILINE,
)
"""A model's entry in torchvision's sources: under a name of its own, or its function's."""


def names_at_hand() -> list[str]:
    """The models' names, read from torchvision's sources: an import takes seconds, which a shell
    that completes a word does not have. Empty where torchvision is not installed."""
    spec = importlib.util.find_spec("torchvision")
    folder = Path(spec.origin or "").parent / "models" if spec is not None else Path()
    texts = (path.read_text(errors="replace") for path in sorted(folder.rglob("*.py")))
    found = (match for text in texts for match in _REGISTERED.finditer(text))
    return sorted(match["name"] or match["function"] for match in found)


def torchvision_models() -> ModuleType:
    """The module ``torchvision.models``; raises InputError when it cannot be imported."""
    make_torchvision_importable()
    try:
        return importlib.import_module("torchvision.models")
    except ImportError as error:
        raise InputError(
            f"torchvision cannot be imported ({error}): pip install 'nptp-opt[zoo]'"
        ) from None


@cache
def make_torchvision_importable() -> None:
    """Name the schemas of torchvision's compiled ops where its compiled half does not load."""
    spec = None if "torchvision" in sys.modules else importlib.util.find_spec("torchvision")
    if spec is not None and spec.origin and not _compiled_half_loads(Path(spec.origin).parent):
        _define_schemas()


def _compiled_half_loads(folder: Path) -> bool:
    import torch

    for library in folder.glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return True
    return False


def _define_schemas() -> None:
    from torch.library import Library

    library: Any = Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for op in _SCHEMAS:
        library.define(f"{op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _keep.append(library)


def build(name: str) -> torch.nn.Module:
    """The torchvision model ``name`` with random weights, in eval mode.

    Raises InputError with the nearest known name when there is none of this name, and
    NotImplementedError on the meta device for a builder that computes with tensors.
    """
    models = torchvision_models()
    known = models.list_models()
    if name not in known:
        raise unknown_name("model", name, known)
    options: dict[str, Any] = {"weights": None}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False  # their truncated normal takes half a minute
    if "weights_backbone" in inspect.signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    try:
        model: torch.nn.Module = models.get_model(name, **options).eval()
    except NotImplementedError:
        raise
    except Exception as error:  # noqa: BLE001 - torchvision's builders raise what they like
        why = last_lines(error)
        raise InputError(f"model {name!r}: torchvision cannot build it: {why}") from None
    return model
