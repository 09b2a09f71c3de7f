"""Mutation testing: small changes of the code, one at a time; do the package's own tests notice?

``python -m tools.mutate geometry cost --sample 30`` takes 30 changes of each package, by a seed.
The repository is copied; each mutant is one changed file of the copy and a process forked from this
one, which has imported what is slow. A mutant is killed where a test fails, nothing can be
collected, or it takes five times the processor time of the unchanged tests. ``PLACE`` arguments (as
they are printed) try single mutants again.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

TESTS: dict[str, tuple[str, ...]] = {
    "geometry": (
        "tests/geometry tests/kernels/test_crops.py",
        "tests/kernels/test_ops.py tests/network/test_torch_ops.py",
    ),
    "cost": (
        "tests/cost/test_cost.py tests/cost/test_encoding.py tests/cost/test_objectives.py",
        "tests/cost/test_pieces.py tests/search/test_bounds.py",
    ),
    "evaluate": ("tests/evaluate", "tests/planner/test_label_path.py"),
    "verification": (
        "tests/verification/test_import_check.py tests/verification/test_torch_check.py",
        "tests/verification tests/fuzz/test_claims.py",
    ),
    "bound": (
        "tests/bound/test_head.py tests/bound/test_reads.py tests/bound/test_objective_bound.py",
        "tests/bound/test_clock.py",
    ),
}
"""What is run for a mutant of each package, in this order; the first failure ends it. With
``--quick`` the first alone."""

SLOWER, LEAST_S = 5, 30
"""Processor seconds that a mutant has: so many times the unchanged tests', and so many more."""

SWAPPED: dict[type[ast.AST], Any] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip

RENAMED = {
    "min": "max", "max": "min", "any": "all", "all": "any", "minimum": "maximum",
    "maximum": "minimum", "append": "count", "argmin": "argmax", "argmax": "argmin",
    "True": "False",
}  # fmt: skip

UNTOUCHED = (ast.Raise, ast.Assert, ast.JoinedStr)
"""Messages, and invariants that no input breaks."""


@dataclass(frozen=True)
class Mutant:
    """A change: ``number`` counts those of its file, ``place`` is how it is printed."""

    file: str
    number: int
    line: int
    what: str

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}:{self.number}"

    @property
    def package(self) -> str:
        return self.file.split("/")[1]


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What may stand in a node's place, and in words."""
    if isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            other = copy.deepcopy(node)
            other.ops[k] = SWAPPED[type(op)]()
            yield _words(node, other), other
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in SWAPPED:
        swapped = copy.deepcopy(node)
        swapped.op = SWAPPED[type(node.op)]()
        yield _words(node, swapped), swapped
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield _words(node, node.operand), node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield from _constants(node)
    elif isinstance(node, ast.Call):
        yield from _renamed(node)
    yield from _statements(node)


def _constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    assert isinstance(value, (bool, int, float))
    others = [not value] if isinstance(value, bool) else [value + 1, value - 1]
    for other in others:
        made = ast.copy_location(ast.Constant(other), node)
        yield _words(node, made), made


def _renamed(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    name = getattr(node.func, "attr", getattr(node.func, "id", None))
    if name in RENAMED:
        other = copy.deepcopy(node)
        setattr(other.func, "attr" if isinstance(node.func, ast.Attribute) else "id", RENAMED[name])
        yield _words(node, other), other


def _statements(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Statements that are left out, values that are not returned, conditions the other way."""
    calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if calls or isinstance(node, (ast.AugAssign, ast.Continue, ast.Break)):
        yield f"{_text(node)} -> (left out)", ast.copy_location(ast.Pass(), node)
    elif isinstance(node, ast.Return) and node.value is not None:
        none = ast.copy_location(ast.Return(ast.Constant(None)), node)
        if _text(node) != _text(none):
            yield _words(node, none), none
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)) and not isinstance(
        node.test, (ast.Compare, ast.UnaryOp)
    ):
        other = copy.copy(node)
        other.test = ast.copy_location(ast.UnaryOp(ast.Not(), node.test), node.test)
        yield f"if {_text(node.test)} -> if not ...", other


def _text(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 70 else f"{text[:67]}..."


def _words(before: ast.AST, after: ast.AST) -> str:
    return f"{_text(before)} -> {_text(after)}"


class _Changer(ast.NodeTransformer):
    """Counts the changes of a file; puts the one of number ``wanted`` in place."""

    def __init__(self, wanted: int | None = None) -> None:
        self.wanted, self.found = wanted, list[tuple[int, str]]()

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, UNTOUCHED):
            return node
        made = node
        for what, other in changes(node):
            if len(self.found) == self.wanted:
                made = other
            self.found.append((getattr(node, "lineno", 0), what))
        self._children(node)
        return made

    def _children(self, node: ast.AST) -> None:
        """All but annotations, decorators and docstrings; a changed child takes its place."""
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases", "keywords_of_class"):
                continue
            if isinstance(value, ast.AST):
                setattr(node, name, self.visit(value))
            elif isinstance(value, list):
                value[:] = [self.visit(v) if isinstance(v, ast.AST) else v for v in value]


def mutants_of(file: str) -> list[Mutant]:
    """All mutants of a file of the repository."""
    changer = _Changer()
    changer.visit(ast.parse((ROOT / file).read_text()))
    return [Mutant(file, k, line, what) for k, (line, what) in enumerate(changer.found)]


def changed_source(source: str, number: int) -> str:
    """The source with one change."""
    tree = ast.parse(source)
    return ast.unparse(ast.fix_missing_locations(_Changer(number).visit(tree)))


def sampled(packages: Iterable[str], size: int, seed: int) -> list[Mutant]:
    """So many mutants of each package, in its files' order."""
    chosen = []
    for package in packages:
        files = sorted((ROOT / "nptp_opt" / package).rglob("*.py"))
        every = [m for file in files for m in mutants_of(str(file.relative_to(ROOT)))]
        picked = random.Random(seed).sample(range(len(every)), min(size, len(every)))
        chosen += [every[k] for k in sorted(picked)]
    return chosen


class Copy:
    """The repository's copy, in which mutants live."""

    def __init__(self, root: Path, stages: int | None = None) -> None:
        self.root, self.stages = root, stages
        for name in ("nptp_opt", "tests", "examples", "tools", "benchmarks", "docs"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, root / name)

    def unchanged(self, package: str) -> float:
        """Processor seconds of the package's tests, which fill the cache of compiled code."""
        status, seconds = self._run(package, 3600.0, self.root / "compiled")
        if status:
            raise SystemExit(f"the unchanged tests of {package} fail: see {self.root / 'log'}")
        return seconds

    def survives(self, mutant: Mutant, limit_s: float) -> bool:
        """Do the tests pass with it?"""
        path = self.root / mutant.file
        source = path.read_text()
        path.write_text(changed_source(source, mutant.number))
        try:
            return self._run(mutant.package, limit_s, self._cache(source))[0] == 0
        finally:
            path.write_text(source)

    def _cache(self, source: str) -> Path:
        """Compiled code that calls a changed function of another file would not be made again."""
        if "numba" not in source:
            return self.root / "compiled"
        shutil.rmtree(self.root / "own", ignore_errors=True)
        return self.root / "own"

    def _run(self, package: str, limit_s: float, cache: Path) -> tuple[int, float]:
        """Status of pytest (-1: killed) and processor seconds."""
        before = os.times()
        child = os.fork()
        if not child:
            self._child(TESTS[package][: self.stages], int(limit_s), cache)
        status = _waited(child, 20 * limit_s)
        after = os.times()
        used = sum(after[2:4]) - sum(before[2:4])
        return (os.waitstatus_to_exitcode(status) if status is not None else -1), used

    def _child(self, tests: Sequence[str], limit_s: int, cache: Path) -> None:
        """Runs the tests and ends; never returns."""
        os.setsid()
        os.chdir(self.root)
        log = os.open(self.root / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s))
        resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, 6 * 2**30))
        sys.path[:] = [str(self.root), *(p for p in sys.path if p not in ("", str(ROOT)))]
        for name in [n for n in sys.modules if n.split(".")[0] in ("nptp_opt", "tests", "tools")]:
            del sys.modules[name]
        sys.dont_write_bytecode = True
        import numba
        import pytest

        numba.config.CACHE_DIR = str(cache)
        os.environ |= {"NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(self.root)}
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
        status = 1
        try:
            stages = (int(pytest.main([*options, *stage.split()])) for stage in tests)
            status = next((each for each in stages if each), 0)
        finally:
            sys.stdout.flush()
            os._exit(status)


def _waited(child: int, limit_s: float) -> int | None:
    """Its status; None where it was ended after ``limit_s``. What it has started ends, too."""
    end, status = time.monotonic() + limit_s, None
    while status is None and time.monotonic() < end:
        found, code = os.waitpid(child, os.WNOHANG)
        status = code if found else None
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status


def _named(places: Sequence[str]) -> list[Mutant]:
    """The mutants at places as they were printed."""
    found = []
    for place in places:
        file, _, number = place.split(":")
        found.append(mutants_of(file)[int(number)])
    return found


def _report(tried: Sequence[tuple[Mutant, bool]]) -> None:
    counts = Counter((mutant.package, survived) for mutant, survived in tried)
    for package in dict.fromkeys(mutant.package for mutant, _ in tried):
        killed, survived = counts[package, False], counts[package, True]
        print(f"{package}: {killed} of {killed + survived} killed")


def main() -> None:
    """Tries mutants and prints each that survives, then counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="+", help=f"packages ({', '.join(TESTS)}) or places")
    parser.add_argument("--sample", type=int, default=30, help="mutants of each package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="only the first of the tests")
    asked = parser.parse_args()
    packages = [each for each in asked.what if each in TESTS]
    chosen = sampled(packages, asked.sample, asked.seed)
    chosen += _named([each for each in asked.what if each not in TESTS])
    _import_what_is_slow()
    tried = []
    with tempfile.TemporaryDirectory(prefix="nptp-mutants-") as folder:
        place = Copy(Path(folder), 1 if asked.quick else None)
        packages = list(dict.fromkeys(mutant.package for mutant in chosen))
        limits = {each: LEAST_S + SLOWER * place.unchanged(each) for each in packages}
        for mutant in chosen:
            survived = place.survives(mutant, limits[mutant.package])
            tried.append((mutant, survived))
            word = "SURVIVED" if survived else "killed"
            print(f"{word} {mutant.place} {mutant.what}", flush=True)
    _report(tried)


def _import_what_is_slow() -> None:
    """Once, before processes are forked; nothing of this package, which mutants change."""
    import hypothesis
    import numba
    import onnxruntime
    import pytest
    import scipy.optimize
    import torch.export

    assert all((hypothesis, numba, onnxruntime, pytest, scipy.optimize, torch.export))


if __name__ == "__main__":
    main()
