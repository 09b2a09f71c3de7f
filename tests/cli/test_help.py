"""What `--help` tells: every option in words, and every default."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from nptp_opt.cli import main
from nptp_opt.commands.report import REPEATS
from nptp_opt.comparison.execute import Request
from nptp_opt.comparison.spec import Spec
from tests.cli.test_commands import call


def _commands(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, *path, name)
        else:
            yield (*path, name)


def _options(path: tuple[str, ...]) -> list[click.Option]:
    command: click.Command = main
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return [param for param in command.params if isinstance(param, click.Option)]


@pytest.mark.parametrize("path", list(_commands(main)), ids=" ".join)
def test_options_are_explained_with_their_defaults(path: tuple[str, ...]) -> None:
    """Bug: `solve --help` did not tell the defaults of its limits."""
    text = " ".join(call(*path, "--help").stdout.split())
    for option in _options(path):
        assert option.help, option.name
        if isinstance(option.default, (int, float, str)) and not option.is_flag:
            shown = option.show_default
            said = f"({shown})" if isinstance(shown, str) else str(option.default)
            assert f"[default: {said}" in text, option.name
    assert "default: inf" not in text and 'default: ""' not in text


def test_defaults_of_compare_are_those_of_a_spec() -> None:
    """They are written down twice: the help must not import what reads a spec."""
    shown = {option.name: option.show_default for option in _options(("compare",))}
    fields = Spec.model_fields
    assert [float(str(shown["seeds"]))] == list(fields["seeds"].default)
    assert [float(str(shown["time_limits_s"]))] == list(fields["time_limits_s"].default)
    assert float(str(shown["memory_mib"])) == fields["memory_mib"].default
    assert (shown["objectives"],) == fields["objectives"].default
    assert (shown["solvers"],) == fields["solvers"].default
    assert Request().repeats == REPEATS
    assert f"[default: ({REPEATS})" in call("report", "--help").stdout
