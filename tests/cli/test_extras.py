"""What is not installed is named with the command that installs it, extra by extra; and every
dependency has a licence that the MIT licence of this package goes with."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

from nptp_opt.deployment.inputs import read_image
from nptp_opt.deployment.normalising import Normalising
from nptp_opt.errors import NptpError
from nptp_opt.kernels.executors import require
from nptp_opt.network import zoo
from nptp_opt.network.signature import TensorSpec
from tests.cli.test_commands import call

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

EXTRAS = {
    "zoo": ("torchvision",),
    "dask": ("distributed", "dask"),
    "images": ("PIL",),
    "serve": ("uvicorn", "httptools", "uvloop", "starlette", "prometheus_client"),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "tls": ("cryptography",),
}
"""The modules that each extra brings."""

COMMANDS = {
    "zoo": ["inspect", "vgg16", "--input", "1x3x32x32"],
    "dask": "compare -o r.sqlite --scheduler tcp://127.0.0.1:1 --planner single --instance"
    " vgg13-n2-unequal-shared-1000".split(),
    "serve": ["serve", "plan.json"],
    "tls": "secret --tls certificates --device a".split(),
}  # fmt: skip

PERMISSIVE = re.compile(
    r"MIT|BSD|Apache|PSF|Python Software Foundation|BSL-1.0|ISC|Zlib|CC0|Unlicense|HPND"
)

FORBIDDEN = re.compile(r"GPL|Affero|Proprietary|Commercial|Non-?commercial", re.IGNORECASE)


def said_without(extra: str, tmp_path: Path) -> str:
    """What is told where a module of the extra is not there."""
    if extra in COMMANDS:
        result = call(*COMMANDS[extra])
        assert result.exit_code == 2, result.output
        return str(result.stderr).splitlines()[-1]
    with pytest.raises(NptpError) as caught:
        if extra == "images":
            read_image(
                tmp_path / "a.png",
                TensorSpec("x", (1, 3, 4, 4), torch.float32),
                Normalising(1.0, (0.0,), (1.0,)),
            )
        else:
            require(extra)
    return str(caught.value)


def test_every_extra_is_tried() -> None:
    assert EXTRAS.keys() == PROJECT["optional-dependencies"].keys() - {"dev"}


@pytest.mark.parametrize(("extra", "module"), [(e, m) for e, ms in EXTRAS.items() for m in ms])
def test_what_is_not_installed_is_named_with_the_command(
    extra: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image without Pillow was an internal error."""
    monkeypatch.chdir(tmp_path)
    for name in list(sys.modules):
        if name.split(".")[0] in (module, "uvicorn") or name.startswith("nptp_opt.deployment.http"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr(zoo, "make_torchvision_importable", lambda: None)  # it remembers
    said = said_without(extra, tmp_path)
    assert f"pip install 'nptp-opt[{extra}]'" in said or f"pip install {extra}" in said
    assert "\n" not in said


def dependencies() -> Iterator[str]:
    """All packages that the package and its extras bring, named once."""
    extras = PROJECT["optional-dependencies"].items()
    todo = [
        *PROJECT["dependencies"],
        *(each for name, own in extras if name != "dev" for each in own),
    ]
    seen = set()
    while todo:
        requirement = Requirement(todo.pop())
        name = requirement.name.lower().replace("_", "-")
        if name in seen or not (
            requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ):
            continue
        seen.add(name)
        yield name
        todo += metadata.requires(name) or []


def licence(name: str) -> str:
    """As the package's metadata has it: an expression, classifiers, or a text."""
    found = metadata.metadata(name)
    classified = [each for each in found.get_all("Classifier") or [] if each.startswith("License")]
    texts = [found.get("License-Expression"), "; ".join(classified), found.get("License")]
    return next((text for text in texts if text), "")


OF_CUDA = ("cuda-", "nvidia-")
"""Packages of NVIDIA, under its own licence, that torch's builds for its GPUs bring; the package
needs none of them, and which build is installed is the user's choice."""


def test_licences_of_all_dependencies_are_permissive() -> None:
    licences = {
        name: licence(name).partition("\n")[0][:200]
        for name in dependencies()
        if not name.startswith(OF_CUDA)
    }
    assert len(licences) > 30
    bad = {
        name: text
        for name, text in licences.items()
        if not PERMISSIVE.search(text) or FORBIDDEN.search(text)
    }
    assert bad == {}
