"""``instances``: the library of layer and network instances."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nptp_opt.commands.group import Group
from nptp_opt.commands.outputs import check_outputs
from nptp_opt.commands.support import (
    FILE,
    json_flag,
    name_option,
    print_document,
    print_json,
    tag_option,
)
from nptp_opt.errors import InputError

COLUMNS = ("name", "grade", "value_s", "bound_s", "kind", "value_by", "bound_by")
"""Of a list, the most important first."""


@click.group(cls=Group)
def instances() -> None:
    """The library of layer and network instances; their names stand for files anywhere."""


@instances.command("list", example="instances list --tag easy --name 'vgg16-*'")
@tag_option
@name_option
@json_flag
def list_instances(tags: tuple[str, ...], names: str, as_json: bool) -> None:
    """List instances with grade, best known value and proven bound."""
    from nptp_opt.instances import library
    from nptp_opt.plot.terminal import print_rows

    rows = [library.row(entry) for entry in library.select(tags, names)]
    print_json("instances list", {"instances": rows}) if as_json else print_rows(rows, COLUMNS)


@instances.command("show", example="instances show vgg13-n2-unequal-shared-1000")
@click.argument("name")
@json_flag
def show_instance(name: str, as_json: bool) -> None:
    """Print one instance as its file would be."""
    from nptp_opt.instances import library

    content = library.problem_to_json(library.open_instance(name))
    print_document(content) if as_json else click.echo(json.dumps(content, indent=1))


@instances.command("export", example="instances export --tag network -o instances")
@tag_option
@name_option
@click.option("-o", "--output", type=FILE, required=True, help="Folder; it is made if need be.")
@json_flag
def export_instances(tags: tuple[str, ...], names: str, output: Path, as_json: bool) -> None:
    """Write instances as files."""
    from nptp_opt.files import write_text
    from nptp_opt.instances import library

    files = library.export(library.select(tags, names))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{output}: cannot be made a folder: {error.strerror}") from None
    for name, content in files.items():
        write_text(output / name, json.dumps(content, indent=1) + "\n")
    written = {"folder": str(output), "files": len(files)}
    if as_json:
        print_json("instances export", written)
    else:
        click.echo(f"{len(files)} files in {output}")


@instances.command("generate", example="instances generate -o library.json")
@click.option("-o", "--output", type=FILE, required=True, help="Library file to write.")
@json_flag
def generate_instances(output: Path, as_json: bool) -> None:
    """Make the library anew from the models; needs torchvision, takes about 15 s."""
    from nptp_opt.files import write_text
    from nptp_opt.instances.generate import generate, to_text

    check_outputs(output)
    content = generate()
    write_text(output, to_text(content))
    written = {"library": str(output), "instances": len(content["instances"])}
    if as_json:
        print_json("instances generate", written)
    else:
        click.echo(f"{written['instances']} in {output}")
