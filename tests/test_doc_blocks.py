"""Every code block of the documentation is executed, in a folder that has what the pages assume.

Models by a torchvision name are a tiny one here, searches are short, ranges of sweeps are their two
ends: what is held is that what a reader copies works, not what comes out of it. Emulated runs are
executed as local ones. Commands that talk to other machines or serve for ever are parsed to the
last value; tests of their own execute them (``ELSEWHERE``).
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from nptp_opt import api
from nptp_opt.cli import main
from nptp_opt.cluster import cluster_from_json
from nptp_opt.commands import support
from nptp_opt.comparison import sweep
from nptp_opt.comparison.spec import spec_from_dict
from nptp_opt.deployment.request import DeployRequest
from nptp_opt.deployment.service import Service
from nptp_opt.instances.reader import LayerInstance
from nptp_opt.network import zoo
from nptp_opt.planner.local_search import anneal
from nptp_opt.planner.registry import PLANNERS
from tests.deployment.http.test_serve import NAME, Served
from tests.doc_blocks import PAGES, ROOT, Block, blocks, commands
from tests.runtime.forked import Template, forking

EVERY = [block for page in PAGES for block in blocks(page)]
ELSEWHERE = {
    "--hosts": "tests/runtime/test_hosts.py",
    "--serve": "tests/runtime/test_profile.py",
    "--peer": "tests/runtime/test_profile.py",
    "--scheduler": "tests/comparison/test_dask.py",
    "--install-service": "tests/runtime/test_service_unit.py",
    "worker": "tests/runtime/test_hosts.py",
    "serve": "tests/deployment/http/test_serve.py",
}
"""Options and commands that are parsed here, and the tests that execute them."""

OWN_TESTS = {
    "deployment.md": "tests/deployment/test_docs.py",
    "extending.md": "tests/test_extending.py",
    "compare.md": "tests/comparison/test_dask.py",
}
"""Pages whose Python has tests of its own; Slurm's block is compiled alone."""

SMALL = "vgg13-max2x2s2-512to512-at7-n4-equal-shared-50"
SPEC = f'instances = ["{SMALL}"]\nformulations = ["strip", "cover"]\ntime_limits_s = [5.0]\n'
CLUSTER = """
[network]
kind = "switched"
[[device]]
name = "pi-0"
gflops = 0.01
up_mbit_per_s = 100
down_mbit_per_s = 100
watts = 1.0
[[device]]
name = "pi-1"
gflops = 0.01
up_mbit_per_s = 100
down_mbit_per_s = 100
watts = 1.0
"""
INPUT = (1, 3, 16, 16)


class Tiny(torch.nn.Module):
    """In place of every torchvision model."""

    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
        self.classifier = torch.nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.classifier(self.features(x).mean((2, 3)))
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, template: Template) -> Iterator[Path]:
    """What the pages assume, and what stands in for large models and long searches."""
    made = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch, forking(template):
        patch.setattr(zoo, "build", lambda name: Tiny().eval())
        patch.setattr(support, "COMMON_INPUT", "x".join(map(str, INPUT)))
        patch.setattr(api, "COMMON_INPUT", INPUT)
        patch.setattr(sweep, "_values", lambda name, low, high, count: (low, high))
        patch.setattr(anneal, "WORK", anneal.WORK / 200)
        patch.setattr(anneal, "LEAST_WORK", anneal.LEAST_WORK / 200)
        patch.chdir(made)
        patch.syspath_prepend(str(made))
        write_files(made)
        yield made


def write_files(folder: Path) -> None:
    """Cluster files, weights, inputs, ONNX files, a spec; plans and a trace by our commands."""
    (folder / "examples").symlink_to(ROOT / "examples")
    for name, text in (
        ("cluster.toml", CLUSTER),
        ("spec.toml", SPEC),
        ("classes.txt", "\n".join("abcdefghij")),
    ):
        (folder / name).write_text(text)
    (folder / "FOLDER").mkdir()
    (folder / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    np.save(folder / "FOLDER" / "a.npy", pixels.transpose(2, 0, 1)[None])
    for name in ("a.png", "b.png"):
        Image.fromarray(pixels).save(folder / "photos" / name)
    torch.save(Tiny().state_dict(), folder / "trained.pt")
    write_onnx(folder / "model.onnx")
    os.link(folder / "model.onnx", folder / "quantised.onnx")
    secret = folder / "secret"
    call(["nptp-opt", "secret", str(secret)])
    for name in ("plan.json", "other.json", "int8.json"):
        call(["nptp-opt", "solve", "vgg16", "-c", "cluster.toml", "-o", name])
    call(["nptp-opt", "run", "plan.json", "--trace", "trace.json", "--repeats", "1"])
    call(["nptp-opt", "compare", "spec.toml", "-o", "results.sqlite"])


def write_onnx(path: Path) -> None:
    torch.onnx.export(Tiny().eval(), (torch.zeros(INPUT),), path, dynamo=False)


def call(words: list[str]) -> None:
    """A command in this process; what it says stands in the assertion."""
    done = CliRunner().invoke(main, words[1:])
    assert done.exit_code == 0, (words, done.output, done.exception)


def parsed(words: list[str]) -> None:
    """All options and arguments of a command have values that it takes."""
    command: click.Command = main
    rest = words[1:] if words[0] == "nptp-opt" else ["worker", *words[1:]]
    while isinstance(command, click.Group):
        command = command.commands[rest.pop(0)]
    command.make_context("documented", rest)


def obey(words: list[str]) -> None:
    """One line of a shell block."""
    program = words[0].rpartition("/")[2]
    if "..." in words or program in ("git", "cd", "pip", "dask"):
        return  # fragments, and programs of others
    if program == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program in ("python", "pytest"):
        assert all((ROOT / word).exists() for word in words if word.endswith(".py"))
    elif program == "nptp-opt-worker" or ELSEWHERE.keys() & set(words):
        parsed([word for word in words if word != "--install-service"])
    elif words[1] not in ALIKE or tuple(words) not in OBEYED:
        OBEYED.add(tuple(words))
        local = [word for word in words if word != "--emulate"]
        call([SMALL if word.startswith("resnet50-") else word for word in local])


ALIKE = {"compare", "instances", "profile", "report", "solve-layer", "sweep"}
OBEYED: set[tuple[str, ...]] = set()
"""What was executed: of those that read no plan, what several pages have is executed once."""


def read_toml(code: str) -> None:
    """A cluster file, a comparison's spec, or a package's entry points."""
    content = tomllib.loads(code)
    if "device" in content:
        cluster_from_json(content)
    elif "instances" in content:
        text = code.replace('"my-layer.json"', f'"{SMALL}"')
        spec_from_dict(tomllib.loads(text) | {"plugins": []})
    else:
        for value in content["project"]["entry-points"].values():
            assert all(":" in each for each in value.values())


def read_json(code: str) -> None:
    """An instance, the cluster's content being that of the cluster file."""
    cluster = json.dumps(tomllib.loads(CLUSTER))
    content = json.loads(code.replace("{ the cluster file's content as JSON }", cluster))
    if content["kind"] == "layer":
        LayerInstance.model_validate(content)
    else:
        assert content["kind"] == "network" and content["model"]["ref"]


def run_python(block: Block, folder: Path) -> None:
    """A file that it names is written, and every block is executed."""
    named = re.match(r"# (\w+)\.py\n", block.code)
    if block.page in OWN_TESTS:
        compile(block.code, block.page, "exec")
    elif named:
        (folder / f"{named[1]}.py").write_text(block.code)
        importlib.invalidate_caches()
        importlib.import_module(named[1])
    elif "127.0.0.1:8000" in block.code:
        with served() as service:
            code = block.code.replace(":8000", f":{service.port}").replace("vgg16", NAME)
            exec(compile(code, block.page, "exec"), {})
    else:
        exec(compile(block.code, block.page, "exec"), {})


def served() -> Served:
    """The page's plan, with an input as large as the page's."""
    model = api.load_model("vgg16", (1, 3, 224, 224))
    where = cluster_from_json(tomllib.loads(CLUSTER))
    plan = api.solve(model, where, planner="single", bound=False)
    return Served(Service(plan, model, DeployRequest()))


@pytest.fixture
def registries() -> Iterator[None]:
    """What pages register is forgotten."""
    kept, modules = dict(PLANNERS._entries), set(sys.modules)
    yield
    PLANNERS._entries.clear()
    PLANNERS._entries.update(kept)
    for name in {*sys.modules} - modules:
        if name in ("thirds", "trunk"):
            del sys.modules[name]


PAGES_OF_CODE = list(dict.fromkeys(block.page for block in EVERY))


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("page", PAGES_OF_CODE)
def test_every_block_is_executed(page: str, folder: Path) -> None:
    """From the page's top to its end, as a reader does."""
    (folder / "plan.json").write_text((folder / "other.json").read_text())
    for secret in folder.glob("*.secret"):  # of another page
        secret.unlink()
    shutil.rmtree(folder / "certificates", ignore_errors=True)
    for block in (each for each in EVERY if each.page == page):
        where = f"{block.page}:{block.line}"
        if block.kind == "shell":
            for words in commands(block.code):
                obey(words)
        elif block.kind == "toml":
            read_toml(block.code)
            if page == "quickstart.md":
                (folder / "boards.toml").write_text(block.code)
        elif block.kind == "json":
            read_json(block.code)
        elif block.kind == "python":
            run_python(block, folder)
        else:
            assert block.kind == "text", f"{where}: a block of no known kind"


def test_what_is_run_elsewhere_is_there() -> None:
    for test in {*ELSEWHERE.values(), *OWN_TESTS.values()}:
        assert (ROOT / test).is_file(), test


def test_a_wrong_command_of_a_page_is_found(folder: Path) -> None:
    """An option that does not exist, a value that is none, a file that is not there."""
    with pytest.raises(AssertionError, match="No such option"):
        obey(["nptp-opt", "solve", "vgg16", "--no-such-option"])
    with pytest.raises(click.BadParameter):
        obey(["nptp-opt", "serve", "plan.json", "--queue", "0"])
    with pytest.raises(AssertionError, match=r"none\.json"):
        obey(["nptp-opt", "verify", "none.json"])
    with pytest.raises(AssertionError):
        obey(["make", "no-such-target"])
