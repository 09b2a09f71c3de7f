"""What imports what: a picture and a table, made from the package's imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import networkx as nx

from tools.docs.markdown import inline, table
from tools.docs.source import Module, modules

BOX, GAP, ROW, MARGIN, LETTER = 30, 48, 60, 10, 7.4
"""Pixels: height of a box, between boxes, between rows, around all; width of a letter."""


_NESTING = ast.stmt | ast.excepthandler | ast.match_case
"""What statements lie in."""


def part_of(module: Module) -> str:
    """A folder, or a loose module; the command line's loose modules count as one."""
    return "cli" if module.part.startswith("cli_") else module.part


@cache
def imports() -> nx.DiGraph:
    """Parts of the package, with an edge from each part to what it imports when it runs."""
    graph = nx.DiGraph()
    for module in modules().values():
        if module.part:
            graph.add_node(part_of(module))
            wanted = {part_of(other) for other in _imported_modules(module) if other.part}
            graph.add_edges_from((part_of(module), other) for other in wanted - {part_of(module)})
    return graph


def _imported_modules(module: Module) -> Iterator[Module]:
    for node in _runtime_statements(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (modules()[name] for name in names if name in modules())


def _runtime_statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements but those for the type checker alone: imports lie in no expression."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            left += [child for child in ast.iter_child_nodes(node) if isinstance(child, _NESTING)]


@dataclass(frozen=True)
class Box:
    """Parts that are drawn together: one, or several that import each other."""

    parts: tuple[str, ...]
    row: int
    """From the bottom: what imports nothing of the package is in row 0."""
    x: float = 0.0

    @property
    def text(self) -> str:
        return ", ".join(self.parts)

    @property
    def width(self) -> float:
        return len(self.text) * LETTER + 20


def boxes() -> tuple[list[Box], list[tuple[int, int]]]:
    """Boxes in their rows, and the arrows between them by number: those that follow from others
    are left out."""
    whole = nx.condensation(imports())
    arrows = list(nx.transitive_reduction(whole).edges)
    members = nx.get_node_attributes(whole, "members")
    rows = enumerate(nx.topological_generations(whole.reverse()))
    row_of = {node: row for row, nodes in rows for node in nodes}
    found = [Box(tuple(sorted(members[node])), row_of[node]) for node in sorted(members)]
    return _spread(found), arrows


def _spread(found: list[Box]) -> list[Box]:
    """Each row's boxes side by side, in the middle of the widest row."""
    places: dict[Box, float] = {}
    widths = {row: _row_width(found, row) for row in {box.row for box in found}}
    for row, width in widths.items():
        x = MARGIN + (max(widths.values()) - width) / 2
        for box in sorted((b for b in found if b.row == row), key=lambda b: b.text):
            places[box] = x
            x += box.width + GAP
    return [Box(box.parts, box.row, places[box]) for box in found]


def _row_width(found: Iterable[Box], row: int) -> float:
    widths = [box.width for box in found if box.row == row]
    return sum(widths) + GAP * (len(widths) - 1)


def svg() -> str:
    """The picture as SVG, in the colours of the page."""
    found, arrows = boxes()
    height = max(box.row for box in found) * ROW + BOX + 2 * MARGIN
    width = max(box.x + box.width for box in found) + MARGIN
    lines = [_arrow(found[a], found[b], height) for a, b in arrows]
    shapes = [_shape(box, height) for box in found]
    return "\n".join([
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" role="img" width="{width:.0f}" '
        'aria-label="Parts of the package and what they import">',
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="currentColor" opacity="0.5"/></marker></defs>',
        *lines,
        *shapes,
        "</svg>",
    ])  # fmt: skip


def _top(box: Box, height: float) -> float:
    return height - MARGIN - BOX - box.row * ROW


def _arrow(upper: Box, lower: Box, height: float) -> str:
    x1, y1 = upper.x + upper.width / 2, _top(upper, height) + BOX
    x2, y2 = lower.x + lower.width / 2, _top(lower, height)
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:.0f},{y1:.0f} C{x1:.0f},{y1 + bend:.0f} {x2:.0f},{y2 - bend:.0f} '
        f'{x2:.0f},{y2:.0f}" fill="none" stroke="currentColor" opacity="0.4" '
        'marker-end="url(#head)"/>'
    )


def _shape(box: Box, height: float) -> str:
    y = _top(box, height)
    return (
        f'<rect x="{box.x:.0f}" y="{y:.0f}" width="{box.width:.0f}" height="{BOX}" rx="4" '
        'fill="var(--md-default-bg-color)" stroke="currentColor"/>'
        f'<text x="{box.x + box.width / 2:.0f}" y="{y + BOX / 2 + 4:.0f}" font-size="13" '
        f'text-anchor="middle" fill="currentColor">{box.text}</text>'
    )


def parts_table() -> str:
    """Every part from the top of the picture to its bottom: what it is, what it imports."""
    graph, (found, _) = imports(), boxes()
    ordered = sorted(found, key=lambda box: (-box.row, box.text))
    rows = [
        [f"`{part}`", _summary(part), ", ".join(sorted(graph.successors(part)))]
        for box in ordered
        for part in box.parts
    ]
    return table(["part", "what it is", "imports"], rows)


def _summary(part: str) -> str:
    module = modules().get(f"nptp_opt.{part}")
    return inline(module.summary) if module else ""
