"""The library: what the package's root hands out, in a few functions.

Errors are ``NptpError`` and its kinds; what a caller gave and cannot be used is an ``InputError``
(a ``ValueError``). Nothing is printed; progress goes to the callables that take it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nptp_opt.cluster import Cluster
from nptp_opt.cost.objectives import Objective
from nptp_opt.deployment.request import (
    DEPLOY,
    DeployRequest,
    DriftLimits,
    require_own_weights,
)
from nptp_opt.errors import InputError
from nptp_opt.layer.limits import Limits
from nptp_opt.layer.problem import LayerProblem
from nptp_opt.layer.result import LayerResult
from nptp_opt.network.load import LoadedModel, load_again
from nptp_opt.network.load import load_model as _load_named
from nptp_opt.network.load import load_module as _load_module
from nptp_opt.network.ref import GIVEN, Channels, InputShape, pixels_of, shapes_of
from nptp_opt.plan.model import Plan
from nptp_opt.planner.options import DEFAULTS, PlanOptions, Tell, Watch
from nptp_opt.runtime.launcher.request import RUN, RunRequest

if TYPE_CHECKING:
    import torch

    from nptp_opt.cluster.model import TransferDtype
    from nptp_opt.deployment.service import Service
    from nptp_opt.runtime.launcher.report import RunReport, Throttle
    from nptp_opt.verification.torch_check import Report

COMMON_INPUT = (1, 3, 224, 224)


def load_model(
    model: str | Path | torch.nn.Module,
    input_shape: InputShape | None = None,
    *,
    seed: int = 0,
    weights: str | Path | None = None,
    input_dtype: str | Sequence[str] = "float32",
    scale: Channels | None = None,
    mean: Channels | Sequence[Channels] | None = None,
    std: Channels | Sequence[Channels] | None = None,
) -> LoadedModel:
    """A model at the shape of its input, or inputs, ready to be planned, verified and run.

    ``model`` is a torchvision name, the path of an .onnx file, ``module:attribute`` that is
    or returns a torch.nn.Module, or such a module itself. ``input_shape`` is (batch, channels,
    rows, columns) in elements, or what the model takes; of several inputs it is a sequence of
    shapes in the model's own order. Without it, it is the size that a file was made with, else
    1x3x224x224. ``seed`` makes random weights where the model has none; ``weights`` is a file that
    brings them to a torchvision name or ``module:attribute``: .safetensors, or a state dict that
    torch.save has written. A module that is an object has its own.

    With ``input_dtype`` "uint8" the network takes pixels and normalises them itself, to the bit as
    if that had been done first: ((x / ``scale``) - ``mean``) / ``std``, by default x itself; mean
    and std are a number or one for every channel. Pixels are sent as bytes. Of a model with several
    inputs each may have its own type: ``input_dtype`` is then a sequence of them, and scale, mean
    and std may be sequences, with an entry for every input of uint8.

    Raises InputError for a model that cannot be loaded, UnsupportedError with the op's name for one
    that cannot be planned.
    """
    named = isinstance(model, (str, Path))
    shape = input_shape or (default_input(str(model)) if named else COMMON_INPUT)
    pixels = pixels_of(len(shapes_of(shape)), input_dtype, scale, mean, std)
    if isinstance(model, (str, Path)):
        file = None if weights is None else Path(weights)
        return _load_named(str(model), shape, seed, file, pixels)
    if not hasattr(model, "named_modules"):
        raise InputError(
            f"model: {type(model).__name__} is no torch.nn.Module, and no name or path of one"
        )
    if weights is not None:
        raise InputError(
            "`weights` are for a model by its name: load them into the module yourself"
        )
    name = f"{GIVEN}{type(model).__module__}:{type(model).__qualname__}"
    return _load_module(model, name, shape).of_pixels(*pixels)


def default_input(ref: str) -> InputShape:
    """The input shape that is meant where none is given."""
    if ref.endswith(".onnx"):
        from nptp_opt.network.from_onnx import declared_input

        return declared_input(Path(ref)) or COMMON_INPUT
    return COMMON_INPUT


def solve(
    model: LoadedModel,
    cluster: Cluster,
    *,
    planner: str = DEFAULTS.planner,
    formulation: str = DEFAULTS.formulation,
    solver: str | None = DEFAULTS.solver,
    time_limit_s: float = DEFAULTS.limits.time_limit_s,
    gap: float = DEFAULTS.limits.gap,
    seed: int = DEFAULTS.limits.seed,
    threads: int = DEFAULTS.limits.threads,
    objective: Objective = DEFAULTS.objective,
    latency_limit_s: float = DEFAULTS.latency_limit_s,
    bound: bool = DEFAULTS.bound,
    transfer_dtype: TransferDtype | None = None,
    samples: str | Path | None = None,
    trust_import: bool = False,
    watch: Watch = DEFAULTS.watch,
    tell: Tell = DEFAULTS.tell,
) -> Plan:
    """Plan a model on a cluster.

    ``formulation`` and ``solver`` solve the single layers, within ``time_limit_s`` seconds and to
    the relative ``gap``; ``threads`` 0 lets the solver choose. ``bound`` asks for a proven bound on
    the latency, too. ``transfer_dtype`` is what feature maps are sent as, the cluster's where it is
    None. ``samples`` is a folder of inputs (.npy, .npz) on which the share of non-zeros is measured
    in every map: where it pays zeros are not sent. ``trust_import`` leaves out the comparison of
    the imported network with the model. ``watch`` is told the latency (seconds) of every better
    plan, ``tell`` what was left out for lack of time.

    Raises InputError for options that are not known, VerificationError where the import is wrong,
    InfeasibleError where memory or the latency limit leave no plan, NoSolutionError where the time
    limit does.
    """
    options = PlanOptions(
        planner=planner,
        formulation=formulation,
        solver=solver,
        limits=Limits(time_limit_s, gap, seed, threads),
        watch=watch,
        tell=tell,
        objective=objective,
        latency_limit_s=latency_limit_s,
        bound=bound,
    )
    if not trust_import:
        hold_import(model, seed)
    sampled = model if samples is None else with_samples(model, samples)
    return solve_with(sampled, cluster.sending_as(transfer_dtype), options)


def with_samples(model: LoadedModel, folder: str | Path) -> LoadedModel:
    """The model with the densities of its maps, measured on a folder of inputs (.npy, .npz).

    Raises InputError for a folder without any, and for one of another shape or of values that are
    not finite.
    """
    from nptp_opt.kernels.densities import measure_densities

    found = measure_densities(model, Path(folder))
    return model.of_densities(found)


def hold_import(model: LoadedModel, seed: int = 0) -> None:
    """Hold the imported network against the model on one random input.

    Raises VerificationError, naming the first layer that differs, for a wrong import.
    """
    from nptp_opt.verification.import_check import check_import

    check_import(model, seed)


def solve_with(model: LoadedModel, cluster: Cluster, options: PlanOptions) -> Plan:
    """As ``solve``, with the options together and an import that is trusted."""
    from nptp_opt.planner import plan_network

    return plan_network(model.ref, model.network, cluster, options)


def load_plan(path: str | Path) -> Plan:
    """A plan from its file (JSON); raises InputError naming file and field."""
    from nptp_opt.plan.document import load_plan as load

    return load(Path(path))


def save_plan(plan: Plan, path: str | Path) -> None:
    """Write a plan to a file (JSON): beside it first, so that no half file is left."""
    from nptp_opt.plan.document import write_plan

    write_plan(plan, Path(path))


def verify(
    plan: Plan,
    model: LoadedModel | None = None,
    *,
    seed: int = 0,
    bound: bool = False,
    executor: str | None = None,
    allow_other_weights: bool = False,
) -> Report:
    """Does the plan compute what the model computes? Every layer in torch, outputs by a witness.

    Without ``model`` the plan's own reference is loaded. ``seed`` makes the input. ``bound``
    computes the plan's bound again, which can take as long as the rest; without it the report says
    that the bound was not checked. ``executor`` computes the plan's tile programs, which are held
    against the model, too; None means the one that ``run`` would take. Raises ExecutionError where
    that is not installed, InputError where the model cannot be loaded or has other weights than
    the plan was made with (unless ``allow_other_weights``); what is wrong with the plan is in the
    report.
    """
    loaded = _planned_model(plan, model, allow_other_weights)
    return verify_executed(plan, loaded, executor, seed=seed, bound=bound)


def verify_executed(plan: Plan, model: LoadedModel, executor: str | None, **options: Any) -> Report:
    """As ``verify``, with the options of ``verify_plan``."""
    from nptp_opt.kernels.executors import require
    from nptp_opt.runtime.executed import Execution
    from nptp_opt.verification.torch_check import verify_plan

    if executor is not None:
        require(executor)
    return verify_plan(plan, model, execution=lambda: Execution(plan, model, executor), **options)


def run(
    plan: Plan,
    model: LoadedModel | None = None,
    *,
    repeats: int = RUN.repeats,
    warmup: int = RUN.warmup,
    timeout_s: float = RUN.timeout_s,
    threads: int = RUN.threads,
    seed: int = RUN.seed,
    in_flight: int = RUN.in_flight,
    emulate: bool = RUN.emulate,
    dilate: float = RUN.dilate,
    transport: str | None = RUN.transport,
    throttle: Throttle | None = RUN.throttle,
    executor: str | None = RUN.executor,
    elastic: bool = RUN.elastic,
    allow_other_weights: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> RunReport:
    """Execute a plan with one process per device on this machine and measure the latency.

    ``repeats`` inputs are timed after ``warmup`` others, each compared with the model's witness;
    ``in_flight`` are on the devices at a time.
    With ``emulate`` every device has a network namespace of its own, with the plan's rates, and the
    plan's speed; ``dilate`` has their clock so many times slower, where this machine is too slow.
    ``transport`` is "gloo" or "tcp", ``throttle`` "none", "pad" or "cgroup".
    ``executor`` names what computes; None for the fastest that is right on each device. With
    ``elastic`` a lost device is planned around. ``timeout_s`` bounds silence and lack of progress.

    Raises VerificationError for a plan that is wrong on paper, ExecutionError where a device fails,
    InputError for other weights than the plan was made with, unless ``allow_other_weights``.
    """
    from nptp_opt.runtime.launcher.command import execute
    from nptp_opt.verification.static import require_right

    request = RunRequest(
        repeats=repeats,
        warmup=warmup,
        timeout_s=timeout_s,
        threads=threads,
        seed=seed,
        in_flight=in_flight,
        emulate=emulate,
        dilate=dilate,
        transport=transport,
        throttle=throttle,
        executor=executor,
        elastic=elastic,
    )
    loaded = _planned_model(plan, model, allow_other_weights)
    require_right(plan, loaded.network, str(plan.model))
    return execute(plan, loaded, request, progress)


def deploy(
    plan: Plan,
    model: LoadedModel | None = None,
    *,
    site: str = DEPLOY.site,
    secret_file: str | Path | None = None,
    tls: str | Path | None = None,
    cluster: str | Path | None = None,
    in_flight: int = DEPLOY.in_flight,
    queue: int = DEPLOY.queue,
    timeout_s: float = DEPLOY.timeout_s,
    threads: int = DEPLOY.threads,
    transport: str | None = DEPLOY.transport,
    throttle: Throttle | None = DEPLOY.throttle,
    executor: str | None = DEPLOY.executor,
    fixed: bool = DEPLOY.fixed,
    drift_tolerance: float = DEPLOY.drift.tolerance,
    drift_after_s: float = DEPLOY.drift.after_s,
    drift_margin: float = DEPLOY.drift.margin,
    allow_other_weights: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Service:
    """A plan with its model's weights, loaded on devices: a context manager that answers inputs.

    ``site`` is "local" (one process per device on this machine), "emulated" (so, each in a network
    namespace, at the plan's rates and speeds), or the "ADDRESS:PORT" at which `nptp-opt worker`
    joins from other machines, with the secret of ``secret_file``, and over TLS where ``tls`` is the
    launcher's certificate; the devices' addresses are the plan's, or those of the file ``cluster``.
    ``in_flight`` inputs are on the devices at a time and ``queue`` more may wait. Other options are
    those of ``run``.

    A lost device is planned around, one that is back is taken in again, and nothing that was
    submitted is lost. Where the devices are not this machine's processes, their speeds and the
    links' rates are measured all the time: one that is off by the share ``drift_tolerance`` for
    ``drift_after_s`` seconds is planned for, beside the work, and the new plan is taken where it
    is better by the share ``drift_margin``. ``fixed`` turns all of that off.

    Raises VerificationError for a plan that is wrong on paper or for another model, InputError for
    weights that are random or others than the plan was made with, unless ``allow_other_weights``.
    """
    from nptp_opt.deployment.service import Service
    from nptp_opt.verification.static import require_right

    request = DeployRequest(
        site=site, in_flight=in_flight, queue=queue, timeout_s=timeout_s, threads=threads,
        transport=transport, throttle=throttle, executor=executor, fixed=fixed,
        drift=DriftLimits(drift_tolerance, drift_after_s, drift_margin),
        secret_file=None if secret_file is None else Path(secret_file),
        tls=None if tls is None else Path(tls),
        cluster=None if cluster is None else Path(cluster),
    )  # fmt: skip
    loaded = _planned_model(plan, model, allow_other_weights)
    if not allow_other_weights:
        require_own_weights(loaded.ref)
    require_right(plan, loaded.network, str(plan.model))
    return Service(plan, loaded, request, progress=progress)


def _planned_model(plan: Plan, model: LoadedModel | None, allow_other_weights: bool) -> LoadedModel:
    """The model that is given, or that the plan names, with weights that the plan may have."""
    from nptp_opt.verification.static import require_weights

    ref = plan.model
    loaded = model or load_again(ref)
    if not allow_other_weights:
        require_weights(plan, loaded, str(ref))
    return loaded


def solve_layer(
    instance: LayerProblem | str | Path,
    *,
    formulation: str = "auto",
    solver: str | None = None,
    time_limit_s: float = math.inf,
    gap: float = DEFAULTS.limits.gap,
    seed: int = 0,
    threads: int = DEFAULTS.limits.threads,
) -> LayerResult:
    """Partition one layer: makespan in seconds, tiles by device number, bound and gap.

    ``instance`` is a problem, the path of an instance file, or a name of the library.
    Raises InputError for unknown names, InfeasibleError where memory leaves no partition,
    SolverError where a solver fails. A limit without a solution is a result with status
    ``no-solution``.
    """
    from nptp_opt.instances.library import open_layer
    from nptp_opt.layer.solve import solve_layer as solve_problem

    problem = instance if isinstance(instance, LayerProblem) else open_layer(instance)
    limits = Limits(time_limit_s, gap, seed, threads)
    return solve_problem(problem, formulation, solver=solver, limits=limits)


def compare(
    spec: str | Path | Mapping[str, Any],
    results: str | Path,
    *,
    workers: int = 0,
    retry_failed: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Run a batch of instances x formulations x solvers (or planners) x seeds into a results file.

    ``spec`` is a TOML file or its content; ``workers`` processes work at once, 0 for one per core.
    What is there already is not run again. Returns runs by how they ended. Raises InputError for a
    spec or a file that cannot be used.
    """
    from nptp_opt.comparison.batch import Local
    from nptp_opt.comparison.command import do_batch
    from nptp_opt.comparison.spec import load_spec, spec_from_dict

    if workers < 0:
        raise InputError(f"workers must be 0 or more, got {workers}")
    content = (
        spec_from_dict(dict(spec), "spec") if isinstance(spec, Mapping) else load_spec(Path(spec))
    )
    return do_batch(
        content, Path(results), Local(workers or os.cpu_count() or 1), retry_failed, progress
    )
