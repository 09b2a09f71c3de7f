"""The command line's reference, from click's own objects; and what its listing commands print."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

import click
from click.testing import CliRunner

from nptp_opt.cli import main
from nptp_opt.commands.group import Command
from tools.docs.markdown import escape, fence, inline, render, table


def commands(group: click.Group = main, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its words behind ``nptp-opt``, in order of name."""
    for name, command in sorted(group.commands.items()):
        words = (*path, name)
        if isinstance(command, click.Group):
            yield from commands(command, *words)
        else:
            yield " ".join(words), command


def reference() -> str:
    """All commands with their usage and options."""
    return "\n\n".join(_command(words, command) for words, command in commands())


def _command(words: str, command: click.Command) -> str:
    context = click.Context(command, info_name=f"nptp-opt {words}", show_default=True)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    rows = [row for param in command.params if (row := _option(param, context))]
    text = render(inspect.cleandoc(command.help or ""))
    examples = command.examples if isinstance(command, Command) else []
    typed = fence("\n".join(examples)) if examples else ""
    options = table(["option", "meaning", "default"], rows)
    blocks = [f"## {words}", fence(usage), text, typed, options]
    return "\n\n".join(blocks)


def _option(param: click.Parameter, context: click.Context) -> list[str]:
    if not isinstance(param, click.Option):
        return []
    names = ", ".join(f"`{name}`" for name in param.opts)
    kind = "" if param.is_flag else f" `{param.make_metavar(context).strip('[]')}`"
    return [names + kind.replace("|", " or "), inline(param.help or ""), _default(param, context)]


def _default(param: click.Option, context: click.Context) -> str:
    """As ``--help`` says it, without its brackets; an option that must be given says so."""
    extra = param.get_help_extra(context)
    if param.required:
        return "required"
    return escape(str(extra.get("default", "")).strip("()"))


def listing(command: str) -> list[dict[str, Any]]:
    """The rows that a listing command prints with --json."""
    result = CliRunner().invoke(main, [command, "--json"], catch_exceptions=False)
    rows: list[dict[str, Any]] = json.loads(result.stdout)[command]
    return rows
