"""``serve``: a plan as a service over HTTP."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nptp_opt.commands.deployed import deploy_request, deployment_options, load_deployed
from nptp_opt.commands.following import VOID, Following, Pace, answer_line
from nptp_opt.commands.group import command, under
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.progress import show_progress
from nptp_opt.commands.support import FILE, json_flag, print_json, print_table
from nptp_opt.deployment.request import DEPLOY
from nptp_opt.errors import ExecutionError, InputError

if TYPE_CHECKING:
    from nptp_opt.deployment.answers import Answer
    from nptp_opt.deployment.service import Service

HTTP = "127.0.0.1:8000"
DEADLINE_S = 60.0

EXTRA = frozenset(("uvicorn", "httptools", "uvloop", "starlette", "prometheus_client"))
"""What the extra ``serve`` installs."""


@command(example="serve plan.json --http 127.0.0.1:8000")
@click.argument("plan", type=FILE)
@under(
    "Service",
    click.option("--http", metavar="ADDRESS:PORT", default=HTTP,
                 help="Where requests are answered."),
    click.option("--name", help="The model's name in requests.",
                 show_default="of the plan's model, without module or folder"),
    click.option("--queue", type=click.IntRange(min=1), default=DEPLOY.queue,
                 help="Inputs that may wait; more are refused (503)."),
    click.option("--deadline", "deadline_s", type=click.FloatRange(min=0, min_open=True),
                 default=DEADLINE_S, help="Seconds from a request to its answer."),
    click.option("--max-request-mib", type=click.FloatRange(min=0, min_open=True),
                 help="Size of a request.", show_default="what the inputs need as JSON"),
    click.option("--ndjson", type=FILE,
                 help="Write a line of JSON per input, as it is answered."),
)  # fmt: skip
@deployment_options
@json_flag
def serve(plan: Path, ndjson: Path | None, as_json: bool, **options: Any) -> None:
    """Answer requests by PLAN until SIGTERM or Ctrl-C (Open Inference Protocol v2).

    Also /metrics for Prometheus. Whoever reaches the address is answered: it is this machine's
    alone unless --http says otherwise. Latencies of an emulated cluster on a machine too slow for
    it are VOID: this is said, and the status is 6.
    """
    _require_extra()
    from nptp_opt.deployment.http.app import Application, Limits
    from nptp_opt.deployment.http.metrics import Metrics
    from nptp_opt.deployment.http.server import HttpServer, address_of, bind
    from nptp_opt.deployment.service import Service
    from nptp_opt.runtime.children import terminable

    check_outputs(ndjson, reads=(plan,))
    request = deploy_request(options, queue=options.pop("queue"))
    mib, deadline_s = options.pop("max_request_mib"), options.pop("deadline_s")
    limits = Limits(deadline_s=deadline_s, body_bytes=None if mib is None else int(mib * 2**20))
    given, http = options.pop("name"), options.pop("http")
    with bind(http) as sock, terminable():
        loaded, model = load_deployed(plan, options)
        name = _checked_name(given or _short_name(loaded.model.ref))
        metrics, start = Metrics(), time.monotonic()
        with show_progress("serving") as line, Following(ndjson, line.note) as follow:

            def answered(answer: Answer) -> None:
                metrics.answered(answer)
                counts = service.counts
                follow.note(answer_line(answer), len(counts.losses) - len(counts.returns))

            service = Service(loaded, model, request, progress=line.say, watch=answered)
            with service:
                metrics.follow(service)
                server = HttpServer(Application(name, service, metrics, limits), sock, deadline_s)
                line.say(f"serving {name} at {address_of(sock)} (Open Inference Protocol v2, "
                         "/metrics)")  # fmt: skip
                server.run()
                line.say("closing: no more requests are taken")
    content = summary(service, follow.pace, time.monotonic() - start)
    void = content.get("void", False)
    if void and not as_json:
        click.echo(VOID)
    print_json("serve", content) if as_json else print_table(content)
    if service.error is not None:
        raise service.error
    if void:
        raise ExecutionError(f"{plan}: {VOID}")


def _require_extra() -> None:
    """Raise InputError, with what to do, where the extra is not installed."""
    try:
        import nptp_opt.deployment.http.server  # noqa: F401 - is what it needs there?
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise InputError(
            f"`serve` needs {error.name}, which is not installed: pip install 'nptp-opt[serve]'"
        ) from None


def _checked_name(name: str) -> str:
    """Raise InputError for a name that no address of a request can have."""
    if not name or "/" in name:
        raise InputError(f"`name` {name!r}: a model's name has letters, and no slash")
    return name


def _short_name(ref: str) -> str:
    """``vgg16``, ``small_cnn`` of a module's callable, ``net`` of a file ``models/net.onnx``."""
    return Path(ref).stem if ref.endswith(".onnx") else ref.rpartition(":")[2]


def summary(service: Service, pace: Pace, seconds: float) -> dict[str, Any]:
    """What is printed when the service ends."""
    counts, padded = service.counts, service.request.as_run().chosen_throttle == "pad"
    emulated = {"void": pace.is_void, "overrun_s": pace.overrun_s} if padded else {}
    return {
        "answered": counts.answered,
        "losses": counts.losses,
        "returns": counts.returns,
        "drifts": counts.drifts,
        "replans": counts.replans,
        "served_s": seconds,
        **emulated,
    }
