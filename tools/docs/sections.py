"""What pages ask for by ``<!-- generate: NAME ARGUMENT -->``: each function here is a NAME."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator

from nptp_opt import errors
from tools.docs import commands, diagram, json_output
from tools.docs.markdown import escape, inline, render, table
from tools.docs.source import ROOT, Module, module_at, modules

_MARK = re.compile(r"^<!-- generate: (\S+) ?(.*?) -->$", re.MULTILINE)
_LINK = re.compile(r"\]\((docs/)?")


def fill(page: str) -> str:
    """A page with everything that it asks for; ValueError for a name that is not known."""
    return _MARK.sub(lambda mark: _section(mark[1], mark[2]), page)


def _section(name: str, argument: str) -> str:
    if name not in SECTIONS:
        raise ValueError(f"nothing generates {name!r}; known: {', '.join(sorted(SECTIONS))}")
    make = SECTIONS[name]
    return make(*([argument] if argument else []))


def docstring(ending: str) -> str:
    """The docstring of the module whose path ends so."""
    return render(module_at(ending).doc)


def include(file: str) -> str:
    """A Markdown file of the repository's root without its title; its links lead to this site."""
    text = (ROOT / file).read_text(encoding="utf-8").split("\n", 1)[1]
    return _LINK.sub("](", text)


def formulations() -> str:
    """Every formulation file that opens with its sets and variables, with what it is listed as."""
    rows = {row["name"]: row for row in commands.listing("formulations")}
    return "\n\n".join(_formulation(module, rows) for module in formulation_modules())


def formulation_modules() -> Iterator[Module]:
    """Those that open with their mathematics."""
    inside = (m for m in modules().values() if m.part == "formulations")
    return (module for module in inside if "\nSets " in module.doc)


def _formulation(module: Module, rows: dict[str, dict[str, object]]) -> str:
    name = module.path.stem.replace("_", "-")
    row = rows[name]
    facts = (
        f"Family {row['family']}; costs {row['pricing']}; proves {row['proves']}; "
        f"solvers: {_words(row['solvers'])}."
    )
    return f"### {name}\n\n{render(module.doc)}\n\n{facts}"


def _words(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def listing(command: str) -> str:
    """The table that a listing command prints."""
    rows = commands.listing(command)
    head = list(rows[0])
    return table(head, [[escape(_words(row[key])) for key in head] for row in rows])


def exit_codes() -> str:
    """Every status with which a command can end."""
    rows = [["0", "done"]]
    codes: dict[int, list[type[errors.NptpError]]] = {}
    for kind in _kinds_of_error():
        codes.setdefault(kind.exit_code, []).append(kind)
    for code, kinds in sorted(codes.items()):
        said = " ".join(
            f"{inline(inspect.getdoc(kind) or '')} (`{kind.__name__}`)" for kind in kinds
        )
        rows.append([str(code), said])
    others = [["130", "interrupted by Ctrl-C"], ["141", "nobody reads the pipe any more"]]
    return table(["status", "meaning"], [*rows, *others])


def _kinds_of_error() -> list[type[errors.NptpError]]:
    """Our errors but the base, in the order in which they are written."""
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [kind for kind in found if issubclass(kind, errors.NptpError)][1:]


def benchmarks() -> str:
    """Every script that measures, and what it says of itself first."""
    scripts = sorted((ROOT / "benchmarks").glob("*.py"))
    docs = {
        path: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in scripts
    }
    rows = [[f"`{path.name}`", inline((doc or "").split("\n\n")[0])] for path, doc in docs.items()]
    return table(["script", "measures"], rows)


SECTIONS: dict[str, Callable[..., str]] = {
    "architecture": lambda: f'<div class="architecture">\n{diagram.svg()}\n</div>',
    "benchmarks": benchmarks,
    "commands": commands.reference,
    "docstring": docstring,
    "exit-codes": exit_codes,
    "formulations": formulations,
    "include": include,
    "json-output": json_output.objects,
    "listing": listing,
    "parts": diagram.parts_table,
}
