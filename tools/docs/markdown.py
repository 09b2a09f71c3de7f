"""From docstrings to Markdown: their own marks mean nothing to Markdown, and the other way round.

Docstrings have code in one backtick or two, lists with ``*`` and blocks of formulas that are
indented. Everything else that Markdown would take for a mark of its own is escaped.
"""

from __future__ import annotations

import html
import re

_CODE = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)
_PAGE = re.compile(r"\bdocs/([\w-]+\.md)\b")
_STRESSED = re.compile(r"(?<![\w)\]*])(?:\\\*){1,2}\w[\w -]*(?<![ -])(?:\\\*){1,2}(?![\w*])")
_BULLET = re.compile(r"\s*[*-] ")


def escape(text: str) -> str:
    """Text outside of code as Markdown shows it unchanged; *words* between stars stay so."""
    safe = re.sub(r"([\\`*_\[\]|#{}])", r"\\\1", html.escape(text, quote=False))
    return _STRESSED.sub(lambda found: found[0].replace("\\*", "*"), safe)


def inline(text: str, up: str = "") -> str:
    """One paragraph: code stays code, pages of the site become links by ``up``, their folder."""
    parts = _CODE.split(text)
    return "".join(part if part.startswith("`") else _link(escape(part), up) for part in parts)


def _link(text: str, up: str) -> str:
    return _PAGE.sub(lambda page: f"[docs/{page[1]}]({up}{page[1]})", text)


def render(docstring: str, up: str = "") -> str:
    """A whole docstring as Markdown."""
    blocks = re.split(r"\n\s*\n", docstring.strip("\n"))
    return "\n\n".join(_block(block, up) for block in blocks if block)


def _block(block: str, up: str) -> str:
    """One paragraph, list, or block of formulas."""
    lines = block.splitlines()
    if lines[0].startswith("    "):
        return fence(block)
    if any(line.startswith(("Sets ", "Variables ")) for line in lines):
        return fence(block)
    bullets = [k for k, line in enumerate(lines) if _BULLET.match(line)]
    if not bullets:
        return inline(block, up)
    starts = sorted({0, *bullets})
    ends = [*starts[1:], len(lines)]
    items = [" ".join(map(str.strip, lines[a:b])) for a, b in zip(starts, ends, strict=True)]
    head = [] if bullets[0] == 0 else [inline(items.pop(0), up), ""]
    return "\n".join([*head, *(f"* {inline(item[2:], up)}" for item in items)])


def fence(text: str, language: str = "text") -> str:
    """A block that is shown as it is."""
    return f"```{language}\n{text}\n```"


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; cells are Markdown, line breaks in them are not kept."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split())
