"""The command line: the group of all commands (docs/cli.md).

Results go to stdout, progress and logs to stderr; ``--json`` prints exactly one JSON object.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import click

from nptp_opt import __version__
from nptp_opt.commands.check import check
from nptp_opt.commands.compare import compare
from nptp_opt.commands.completion import completion
from nptp_opt.commands.emulate import emulate
from nptp_opt.commands.explain import explain
from nptp_opt.commands.group import Group
from nptp_opt.commands.infer import infer
from nptp_opt.commands.init import init
from nptp_opt.commands.inspect import inspect
from nptp_opt.commands.instances import instances
from nptp_opt.commands.interrupts import begin, interrupted, tell
from nptp_opt.commands.lists import executors, formulations, planners, solvers, versions
from nptp_opt.commands.profile import profile
from nptp_opt.commands.report import report
from nptp_opt.commands.run import run
from nptp_opt.commands.secret import secret
from nptp_opt.commands.serve import serve
from nptp_opt.commands.show import show
from nptp_opt.commands.solve import solve
from nptp_opt.commands.solve_layer import solve_layer
from nptp_opt.commands.speech import Speech, common_options, speech
from nptp_opt.commands.support import as_options, print_json
from nptp_opt.commands.sweep import sweep
from nptp_opt.commands.verify import verify
from nptp_opt.commands.worker import worker
from nptp_opt.errors import (
    INTERNAL,
    INTERRUPTED,
    ExecutionError,
    InputError,
    NptpError,
    internal_error,
)

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
"""Of every command."""


NO_MEMORY = "not enough memory: free some, raise the limit (`ulimit -v`), or take a smaller input"

UNWRITABLE = {
    errno.EPIPE: 128 + signal.SIGPIPE,
    errno.ENOSPC: InputError.exit_code,
    errno.EDQUOT: InputError.exit_code,
}
"""Exit status by what is wrong with the place that results are written to: a pipe that nobody reads
any more, as shells have it, or a full disk."""


class _Group(Group):
    """Turns our errors into one line on stderr and their exit code, and any other exception into
    a line and a code of its own: 1 says that a plan was found wrong. With -v its traceback."""

    def make_context(
        self, info_name: str | None, args: list[str], *more: Any, **extra: Any
    ) -> click.Context:
        asked = Speech(json="--json" in args)
        with written():  # --help and --version write here
            try:
                return super().make_context(info_name, args, *more, obj=asked, **extra)
            except click.ClickException as error:
                told(asked, type(error).__name__, error.format_message(), error.exit_code)
                raise
            except KeyboardInterrupt:  # click's own status means a wrong plan here
                tell("interrupted")
                sys.exit(INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        begin()
        with written():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NptpError as error:
            self._fail(ctx, type(error).__name__, as_options(str(error)), error.exit_code)
        except (KeyboardInterrupt, click.Abort):
            self._fail(ctx, "Interrupted", "interrupted", INTERRUPTED)
        except click.ClickException as error:  # click prints it
            told(speech(), type(error).__name__, error.format_message(), error.exit_code)
            raise
        except click.exceptions.Exit:
            raise
        except MemoryError:
            self._fail(ctx, ExecutionError.__name__, NO_MEMORY, ExecutionError.exit_code)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in UNWRITABLE:
                raise
            if speech().verbose:
                traceback.print_exception(error)
            self._fail(ctx, "InternalError", internal_error(error), INTERNAL)

    @staticmethod
    def _fail(ctx: click.Context, kind: str, message: str, status: int) -> NoReturn:
        if interrupted():  # whatever has become of it on its way here
            kind, message, status = "Interrupted", "interrupted", INTERRUPTED
        click.echo(f"nptp-opt: {message}", err=True)
        told(speech(), kind, message, status)
        ctx.exit(status)


def told(asked: Speech, kind: str, message: str, status: int) -> None:
    """The error as an object, where one is wanted and none was printed."""
    if asked.json and not asked.printed:
        print_json("error", {"error": kind, "message": message, "exit_code": status})


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Ends the command where its output cannot be written: a full disk, a closed pipe."""
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        if error.errno != errno.EPIPE:
            place = error.filename or "the output"
            click.echo(f"nptp-opt: {place} cannot be written: {error.strerror}", err=True)
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # what is buffered goes there
        sys.exit(UNWRITABLE[error.errno])


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="nptp-opt")
def main() -> None:
    """Optimal partitions of CNN inference over several devices: plan, prove, execute."""


main.params += common_options()
for _command in (
    *(init, solve, inspect, verify, show, explain),
    *(run, infer, serve, worker, secret, profile, emulate, sweep),
    *(solve_layer, check, instances, compare, report),
    *(formulations, planners, solvers, executors, versions, completion),
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
