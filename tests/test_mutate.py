"""The mutation tester changes one thing at a time, and nothing that no test could notice."""

from __future__ import annotations

import ast

import pytest

from tools.mutate import ROOT, TESTS, Mutant, changed_source, mutants_of, sampled

SOURCE = '''
def clipped(a: int, low: int = 0) -> int:
    """No docstring is changed: 1 < 2."""
    if a < low and low:
        raise ValueError(f"{a + 1} is too low")
    return max(a, low)
'''


def outcomes(source: str) -> list[str]:
    """Every mutant's changed lines."""
    original = ast.unparse(ast.parse(source)).splitlines()
    found = []
    for number in range(1000):
        made = changed_source(source, number).splitlines()
        if made == original:
            return found
        found.append(next(line.strip() for line in made if line not in original))
    raise AssertionError("mutants without end")


def test_a_function_s_mutants_are_these() -> None:
    """Worked out by hand: annotations, docstrings and what is raised stay as they are."""
    assert outcomes(SOURCE) == [
        "def clipped(a: int, low: int=1) -> int:",
        "def clipped(a: int, low: int=-1) -> int:",
        "if not (a < low and low):",
        "if a < low or low:",
        "if a <= low and low:",
        "return None",
        "return min(a, low)",
    ]


@pytest.mark.parametrize("package", TESTS)
def test_a_sample_of_a_package_is_the_same_every_time_and_compiles(package: str) -> None:
    chosen = sampled([package], 5, 1)
    assert chosen == sampled([package], 5, 1) and len(chosen) == 5
    for mutant in chosen:
        assert mutant.package == package
        source = (ROOT / mutant.file).read_text()
        made = changed_source(source, mutant.number)
        compile(made, mutant.file, "exec")
        assert made != ast.unparse(ast.parse(source))


def test_a_mutant_is_found_again_by_its_place() -> None:
    mutant = mutants_of("nptp_opt/geometry/tiles.py")[7]
    file, line, number = mutant.place.split(":")
    assert Mutant(file, int(number), int(line), mutant.what) == mutant


@pytest.mark.parametrize("stage", [each for stages in TESTS.values() for each in stages])
def test_the_tests_of_a_package_are_there(stage: str) -> None:
    assert all((ROOT / path).exists() for path in stage.split())
