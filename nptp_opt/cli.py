"""The command line: the group of all commands (docs/cli.md).

Results go to stdout, progress and logs to stderr; ``--json`` prints exactly one JSON object.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import click

from nptp_opt import __version__
from nptp_opt.commands.check import check
from nptp_opt.commands.compare import compare
from nptp_opt.commands.emulate import emulate
from nptp_opt.commands.inspect import inspect
from nptp_opt.commands.instances import instances
from nptp_opt.commands.interrupts import INTERRUPTED
from nptp_opt.commands.lists import executors, formulations, planners, solvers, versions
from nptp_opt.commands.profile import profile
from nptp_opt.commands.report import report
from nptp_opt.commands.run import run
from nptp_opt.commands.show import show
from nptp_opt.commands.solve import solve
from nptp_opt.commands.solve_layer import solve_layer
from nptp_opt.commands.support import as_options
from nptp_opt.commands.sweep import sweep
from nptp_opt.commands.verify import verify
from nptp_opt.commands.worker import worker
from nptp_opt.errors import INTERNAL, NptpError, internal_error

CONTEXT = {"help_option_names": ["-h", "--help"], "show_default": True}
"""Of every command."""


class _Group(click.Group):
    """Turns our errors into one line on stderr and their exit code, and any other exception into
    a line and a code of its own: 1 says that a plan was found wrong. With -v its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NptpError as error:
            click.echo(f"nptp-opt: {as_options(str(error))}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:  # click's own status for it means a failed verification here
            click.echo("nptp-opt: interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click's own
        except Exception as error:  # noqa: BLE001 - nobody expected it
            if ctx.params["verbose"]:
                traceback.print_exception(error)
            click.echo(f"nptp-opt: {internal_error(error)}", err=True)
            ctx.exit(INTERNAL)


@click.group(cls=_Group, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="nptp-opt")
@click.option("-v", "--verbose", count=True, help="More progress on stderr, and tracebacks.")
def main(verbose: int) -> None:
    """Optimal partitions of CNN inference over several devices: plan, prove, execute."""
    level = logging.WARNING - 10 * min(verbose, 2)
    logging.basicConfig(stream=sys.stderr, level=level, format="%(name)s: %(message)s")


for _command in (
    *(solve, inspect, verify, show, run, worker, profile, emulate, sweep),
    *(solve_layer, check, instances, compare, report),
    *(formulations, planners, solvers, executors, versions),
):
    main.add_command(_command)


if __name__ == "__main__":
    main()
