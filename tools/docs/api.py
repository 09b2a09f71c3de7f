"""The API reference: the public names of every module, from the source alone."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from functools import cache

from tools.docs.markdown import fence, inline, render, table
from tools.docs.source import (
    PACKAGE,
    Definition,
    Module,
    definitions,
    doc_entries,
    is_public,
    modules,
)

UP = "../"
"""From the reference's folder to that of the pages."""

WIDTH = 92
"""Longer signatures have a line per argument."""


@cache
def pages() -> dict[str, str]:
    """Markdown by page name: an index, the package's loose modules, and a page per folder."""
    parts: dict[str, list[Module]] = {}
    for module in modules().values():
        parts.setdefault(_page(module), []).append(module)
    found = {name: _page_text(name, members) for name, members in sorted(parts.items())}
    return {"index": _index(parts), **found}


def _page(module: Module) -> str:
    """A folder's modules share a page; so do all modules that lie in no folder."""
    is_folder = module.part and (PACKAGE / module.part).is_dir()
    return module.part if is_folder else PACKAGE.name


def _index(parts: dict[str, list[Module]]) -> str:
    rows = [
        [f"[`{module.name}`]({page}.md#{module.name})", inline(module.summary, UP)]
        for page, members in sorted(parts.items())
        for module in members
    ]
    intro = (
        "Every public name of every module, made from the source at each build. Names that begin "
        "with an underscore are private. What a folder's own module lists under *offers* is what "
        "other folders import from it."
    )
    return f"# API reference\n\n{intro}\n\n{table(['module', 'what it is'], rows)}\n"


def _page_text(name: str, members: list[Module]) -> str:
    return f"# {name}\n\n" + "\n\n".join(_module(module) for module in members) + "\n"


def _module(module: Module) -> str:
    blocks = [f"## `{module.name}` {{#{module.name}}}", render(module.doc, UP), _offers(module)]
    constants = [f"* `{name}`: {inline(doc, UP)}" for name, _, doc in doc_entries(module.tree.body)
                 if doc]  # fmt: skip
    blocks.append("\n".join(constants))
    blocks += [_definition(module, node) for node in definitions(module.tree.body)]
    return "\n\n".join(block for block in blocks if block)


def _offers(module: Module) -> str:
    """What a folder's ``__init__`` gives on from its modules, with where that is defined."""
    names = [
        f"[`{alias.asname or alias.name}`]({_page(home)}.md#{home.name}.{alias.name})"
        for home, alias in _re_exports(module)
        if is_public(alias.name) and _defines(home, alias.name)
    ]
    return "Offers: " + ", ".join(names) + "." if names else ""


def _re_exports(module: Module) -> Iterator[tuple[Module, ast.alias]]:
    if module.path.name != "__init__.py":
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module in modules():
            yield from ((modules()[node.module], alias) for alias in node.names)


def _defines(module: Module, name: str) -> bool:
    return any(node.name == name for node in definitions(module.tree.body))


def _definition(module: Module, node: Definition) -> str:
    heading = f"### {node.name} {{#{module.name}.{node.name}}}"
    doc = render(ast.get_docstring(node) or "", UP)
    blocks = [heading, fence(signature(node), "python"), doc]
    if isinstance(node, ast.ClassDef):
        blocks += [_fields(node), _methods(node)]
    return "\n\n".join(block for block in blocks if block)


def signature(node: Definition) -> str:
    """How a class is made, or a function is called."""
    if isinstance(node, ast.ClassDef):
        init = next((each for each in _functions(node) if each.name == "__init__"), None)
        bases = ", ".join(map(ast.unparse, node.bases))
        head = f"class {node.name}" + (f"({bases})" if bases else "")
        return head if init is None else f"{head}\n{_call(node.name, init, bound=True)}"
    return _call(f"def {node.name}", node, bound=False)


def _functions(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (each for each in node.body if isinstance(each, ast.FunctionDef))


def _call(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef, *, bound: bool) -> str:
    """``bound`` leaves out the first argument, self or cls."""
    arguments = _arguments(node.args)[1 if bound else 0 :]
    result = "" if node.returns is None or node.name == "__init__" else ast.unparse(node.returns)
    arrow = f" -> {result}" if result else ""
    line = f"{name}({', '.join(arguments)}){arrow}"
    if len(line) <= WIDTH:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in arguments) + f"){arrow}"


def _arguments(args: ast.arguments) -> list[str]:
    """Each argument as it is written, with the bare marks ``/`` and ``*``."""
    plain = [*args.posonlyargs, *args.args]
    missing: list[ast.expr | None] = [None] * (len(plain) - len(args.defaults))
    found = [*map(_argument, plain, [*missing, *args.defaults])]
    if args.posonlyargs:
        found.insert(len(args.posonlyargs), "/")
    if args.vararg or args.kwonlyargs:
        found.append(f"*{ast.unparse(args.vararg)}" if args.vararg else "*")
    found += map(_argument, args.kwonlyargs, args.kw_defaults)
    return [*found, *([f"**{ast.unparse(args.kwarg)}"] if args.kwarg else [])]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    if default is None:
        return text
    return (
        f"{text} = {ast.unparse(default)}"
        if argument.annotation
        else f"{text}={ast.unparse(default)}"
    )


def _fields(node: ast.ClassDef) -> str:
    rows = [
        f"* `{name}{': ' + kind if kind else ''}`" + (f": {inline(doc, UP)}" if doc else "")
        for name, kind, doc in doc_entries(node.body)
    ]
    return "\n".join(rows)


def _methods(node: ast.ClassDef) -> str:
    """Public methods and properties that are told of; the others say what they are by name."""
    return "\n".join(_method(each) for each in _functions(node) if is_public(each.name))


def _method(node: ast.FunctionDef) -> str:
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    doc = textwrap.indent(render(ast.get_docstring(node) or "", UP), "    ").strip()
    if marks & {"property", "cached_property"}:
        kind = f": {ast.unparse(node.returns)}" if node.returns else ""
        text = f"{node.name}{kind}"
    else:
        text = " ".join(_call(node.name, node, bound="staticmethod" not in marks).split())
    return f"* `{text.replace('( ', '(').replace(', )', ')')}`" + (f": {doc}" if doc else "")
