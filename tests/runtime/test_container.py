"""The worker's container file and its compose example: built where an engine answers, else read."""

from __future__ import annotations

import ipaddress
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from nptp_opt import __version__
from nptp_opt.plan.model import Plan
from nptp_opt.runtime.launcher.launch import run_plan
from nptp_opt.runtime.launcher.site import Hosts
from nptp_opt.runtime.worker import start
from tests.runtime.plans import hand_plan, in_pieces, model_of
from tests.runtime.test_hosts import _free_port
from tests.runtime.test_light_worker import halves, two_hosts

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "packaging" / "worker"
INSTRUCTIONS = {"FROM", "COPY", "RUN", "USER", "VOLUME", "ENTRYPOINT"}


def _instructions() -> list[tuple[str, str]]:
    """What the container file says, each with its argument; comments left out."""
    lines = (FOLDER / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    parts = [line.partition(" ") for line in lines if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in parts]


def _entrypoint() -> list[str]:
    ((_, words),) = (each for each in _instructions() if each[0] == "ENTRYPOINT")
    return list(json.loads(words))


def _compose() -> Any:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def test_the_container_file_copies_what_is_there() -> None:
    """Of this folder or of a stage before; nothing that is copied is kept from the builder."""
    stages: list[str] = []
    for word, rest in _instructions():
        assert word in INSTRUCTIONS
        words = rest.split()
        if word == "FROM":
            stages += words[words.index("AS") + 1 :] if "AS" in words else []
        elif word == "COPY" and words[0].startswith("--from="):
            assert words[0].removeprefix("--from=") in stages
        elif word == "COPY":
            assert (ROOT / words[0]).is_dir()
            assert f"!{words[0]}" in (FOLDER / "Dockerfile.dockerignore").read_text().split()
        elif word == "RUN":
            subprocess.run(["sh", "-nc", rest], check=True)
    assert stages == ["build"]
    assert ("VOLUME", "/var/cache/nptp-opt") in _instructions()


def test_the_compose_examples_services_are_workers() -> None:
    """Their command lines are taken, what they refer to is defined, addresses are the network's."""
    content = _compose()
    (pool,) = content["networks"]["boards"]["ipam"]["config"]
    network, seen = ipaddress.ip_network(pool["subnet"]), {pool["gateway"]}
    for name, service in content["services"].items():
        args = start.parser().parse_args([*_entrypoint()[1:], *service["command"]])
        assert (args.name, args.daemon) == (name, True)
        assert args.connect == f"{pool['gateway']}:7000"
        assert args.secret_file == Path("/run/secrets", *service["secrets"])
        assert service["secrets"] == list(content["secrets"])
        assert [each.split(":")[1] for each in service["volumes"]] == [str(args.cache)]
        assert {each.split(":")[0] for each in service["volumes"]} == content["volumes"].keys()
        built = service["build"]
        assert (FOLDER / built["context"] / built["dockerfile"]).resolve() == FOLDER / "Dockerfile"
        address = service["networks"]["boards"]["ipv4_address"]
        assert ipaddress.ip_address(address) in network and address not in seen
        seen.add(address)


def _said(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def engine() -> str:
    """A container engine that answers and has, or gets, the base image."""
    there = [name for name in ("docker", "podman") if shutil.which(name) is not None]
    answering = next((name for name in there if not _said(name, "version").returncode), None)
    if answering is None:
        pytest.skip("no container engine answers: the container file's syntax alone is tested")
    base = next(rest.split()[0] for word, rest in _instructions() if word == "FROM")
    full = f"docker.io/library/{base}"
    there_is = _said(answering, "image", "inspect", full).returncode == 0
    if not there_is and _said(answering, "pull", full).returncode:
        pytest.skip(f"{base} cannot be pulled: the container file's syntax alone is tested")
    return answering


@pytest.fixture(scope="module")
def image(engine: str) -> Iterator[str]:
    """The worker's image, built from these sources."""
    tag = "nptp-opt-worker:test"
    done = _said(engine, "build", "-f", FOLDER / "Dockerfile", "-t", tag, ROOT)
    assert done.returncode == 0, done.stderr
    yield tag
    _said(engine, "image", "rm", tag)


@pytest.mark.slow
def test_the_container_is_a_worker(engine: str, image: str) -> None:
    """It says its version and refuses bad options as ever."""
    assert _said(engine, "run", "--rm", image, "--version").stdout == (
        f"nptp-opt-worker {__version__}\n"
    )
    words = shlex.split("--connect 127.0.0.1:1 --name d0 --secret-file /none")
    assert _said(engine, "run", "--rm", image, *words).returncode == 2


@contextmanager
def _containers(engine: str, image: str, plan: Plan, folder: Path) -> Iterator[dict[str, Any]]:
    """A container for each device, on this machine's loopback; how a launcher reaches them."""
    secret, port = folder / "secret", _free_port()
    secret.write_text("a secret of this test alone")
    folder.chmod(0o755)
    secret.chmod(0o644)  # the user in the container has to read it
    names = {device.name: f"nptp-opt-test-{port}-{device.name}" for device in plan.cluster.devices}
    for device in plan.cluster.devices:
        run = [engine, "run", "--detach", "--network", "host", "--name", names[device.name],
               "-v", f"{secret}:/run/secrets/run:ro"]  # fmt: skip
        words = ["--connect", f"127.0.0.1:{port}", "--name", device.name,
                 "--secret-file", "/run/secrets/run"]  # fmt: skip
        started = _said(*run, image, *words)
        assert started.returncode == 0, started.stderr
    try:
        yield {"transport": "tcp", "site": Hosts(plan.cluster), "secret_file": secret,
               "listen": f"tcp:127.0.0.1:{port}"}  # fmt: skip
    finally:
        _said(engine, "rm", "--force", *names.values())


@pytest.mark.slow
def test_containers_take_one_job_after_the_other(engine: str, image: str, tmp_path: Path) -> None:
    """Two of them are daemons that give the model's output for two launchers; the second sends no
    weights again."""
    model = model_of("squeeze")
    plan = in_pieces(hand_plan(model, "squeeze", halves, two_hosts()))
    told: list[str] = []
    with _containers(engine, image, plan, tmp_path) as reached:
        for _ in range(2):
            report = run_plan(
                plan, model, repeats=1, warmup=0, executor=None, progress=told.append, **reached
            )
            assert report.ok and report.executors == {"d0": "onnxruntime", "d1": "onnxruntime"}
    sent = [line.startswith("weights: 0 MB sent") for line in told if line.startswith("weights:")]
    assert sent == [False, True], told
