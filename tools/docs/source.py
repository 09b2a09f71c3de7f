"""The package's source as the site reads it: parsed, never imported.

Modules are found by the end of their path, so that pages need not change when a module moves.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "nptp_opt"

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A module of the package; ``name`` is dotted, a package has that of its folder."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def doc(self) -> str:
        return ast.get_docstring(self.tree) or ""

    @property
    def summary(self) -> str:
        """The docstring's first paragraph in one line."""
        return " ".join(self.doc.split("\n\n")[0].split())

    @property
    def part(self) -> str:
        """The folder or loose module below the package that it belongs to; "" for the package."""
        return [*self.name.split(".", 2), ""][1]


@cache
def modules(package: Path = PACKAGE) -> dict[str, Module]:
    """All modules of a package by dotted name, in the order of their names."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        if path.name == "__main__.py":  # a command, and nothing to import
            continue
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    return dict(sorted(found.items()))


def module_at(ending: str) -> Module:
    """The only module whose path ends with ``ending``; ValueError where there is none or more."""
    tail = Path(ending).parts
    found = [each for each in modules().values() if each.path.parts[-len(tail) :] == tail]
    if len(found) != 1:
        raise ValueError(f"{ending}: {len(found)} modules of nptp_opt have a path that ends so")
    return found[0]


def is_public(name: str) -> bool:
    return not name.startswith("_")


def definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Public classes and functions among ``body``; overloads and their like once."""
    found = {node.name: node for node in body if isinstance(node, Definition)}
    return (node for name, node in found.items() if is_public(name))


def doc_entries(body: list[ast.stmt]) -> Iterator[tuple[str, str, str]]:
    """Public names that are assigned or declared in ``body``: name, type, docstring below it."""
    for place, node in enumerate(body):
        name = _assigned_name(node)
        if name is not None and is_public(name):
            yield name, _declared_type(node), _docstring_below(body, place)


def _assigned_name(node: ast.stmt) -> str | None:
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    first = targets[0]
    return first.id if len(targets) == 1 and isinstance(first, ast.Name) else None


def _declared_type(node: ast.stmt) -> str:
    return ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""


def _docstring_below(body: list[ast.stmt], place: int) -> str:
    below = body[place + 1] if place + 1 < len(body) else None
    constant = below.value if isinstance(below, ast.Expr) else None
    text = constant.value if isinstance(constant, ast.Constant) else None
    return " ".join(text.split()) if isinstance(text, str) else ""
