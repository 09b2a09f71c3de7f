"""The command line's commands and options, frozen."""

from __future__ import annotations

import click

from nptp_opt.cli import main


def test_the_surface_of_the_command_line_is_frozen() -> None:
    """Changing a command or an option is a decision: change this list with it."""
    surface = {
        name: sorted(
            option
            for param in command.params
            if not getattr(param, "hidden", False)  # what is gone says what to write instead
            for option in param.opts
        )
        for name, command in main.commands.items()
    }
    limits = ["--gap", "--seed", "--solver", "--threads", "--time-limit"]
    assert surface == {
        "init": sorted(
            "-o --output --force --name --device --network --mbit-per-s --latency-ms --hosts "
            "--secret-file --tls --model --input --threads --repeats --executor --json".split()
        ),
        "solve": sorted(
            "model --cluster -c --output -o --input --planner --formulation --transfer-dtype "
            "--trust-import --weights --input-dtype --scale --mean --std --samples "
            "--objective --latency-limit-ms --pareto --points --no-bound --json".split()
            + limits
        ),
        "sweep": sorted(
            "model -c --cluster --over --input --input-dtype --scale --mean --std --samples "
            "--planner --time-limit -o --output --png --svg "
            "--json".split()
        ),
        "solve-layer": sorted(
            ["instance", "--formulation", "--export-mps", "--export-lp", "--json", *limits]
        ),
        "check": ["--json", "instance", "result"],
        "verify": sorted(
            "plan --allow-other-weights --bound --executor --json --seed --weights".split()
        ),
        "run": sorted(
            "plan --repeats --warmup --stream --timeout --threads --seed --emulate --dilate "
            "--transport --throttle --executor --elastic --trace --calibrate --hosts --cluster "
            "--secret-file --tls "
            "--in-flight --ndjson --weights --allow-other-weights --json".split()
        ),
        "infer": sorted(
            "plan inputs -o --output --top --labels --scale --mean --std --fixed --weights "
            "--allow-other-weights --in-flight --emulate --hosts --cluster --secret-file --tls "
            "--transport --throttle --executor --threads --timeout --json "
            "--drift-tolerance --drift-after --drift-margin".split()
        ),
        "serve": sorted(
            "plan --http --name --queue --deadline --max-request-mib --fixed --ndjson --weights "
            "--allow-other-weights --in-flight --emulate --hosts --cluster --secret-file --tls "
            "--transport --throttle --executor --threads --timeout --json "
            "--drift-tolerance --drift-after --drift-margin".split()
        ),
        "secret": sorted("file --tls -c --cluster --device --days --json".split()),
        "worker": sorted(
            "--connect --daemon --executor --interface --name --secret-file --tls --cache "
            "--cache-mib --install-service".split()
        ),
        "profile": sorted(
            "model -o --output --input --threads --repeats --executor --serve --peer "
            "--secret-file --tls --json".split()
        ),
        "emulate": ["--clean", "--json"],
        "inspect": sorted("model --input --input-dtype --scale --mean --std --json".split()),
        "show": ["--figures", "--html", "--json", "--png", "--svg", "--trace", "plan", "plan2"],
        "explain": sorted(
            "what --json --no-what-if -c --cluster --input --latency-limit-ms --transfer-dtype "
            "--input-dtype --scale --mean --std".split()
        ),
        "instances": [],
        "compare": sorted(
            "spec --output -o --instance --tag --formulation --planner --solver --seed "
            "--objective --latency-limit-ms --transfer-dtype --encodings --time-limit --memory "
            "--workers --retry --scheduler --tls-ca-file --tls-cert --tls-key --json".split()
        ),
        "report": sorted(
            "results --html --csv --markdown --figures --baseline --against --execute --emulate "
            "--repeats --json".split()
        ),
        "formulations": ["--json"],
        "planners": ["--json"],
        "solvers": ["--json"],
        "executors": ["--json"],
        "versions": ["--json"],
        "completion": ["shell"],
    }


def test_the_surface_of_instances_is_frozen() -> None:
    """As above, for the commands under `instances`."""
    group = main.commands["instances"]
    assert isinstance(group, click.Group)
    surface = {
        name: sorted(
            option
            for param in command.params
            if not getattr(param, "hidden", False)  # what is gone says what to write instead
            for option in param.opts
        )
        for name, command in group.commands.items()
    }
    assert surface == {
        "list": ["--json", "--name", "--tag"],
        "show": ["--json", "name"],
        "export": ["--json", "--name", "--output", "--tag", "-o"],
        "generate": ["--json", "--output", "-o"],
    }


def test_every_command_has_the_common_options() -> None:
    """Before the command and behind it, so that `solve -v` is `-v solve`."""
    common = {"-q", "--quiet", "-v", "--verbose", "--wide", "--help"}
    assert common | {"--version"} == set(_spelled(main)) - {"-h"}
    for command in main.commands.values():
        assert common <= set(_spelled(command)) or isinstance(command, click.Group)


def _spelled(command: click.Command) -> list[str]:
    params = command.get_params(click.Context(command))
    return [o for param in params for o in param.opts if isinstance(param, click.Option)]
