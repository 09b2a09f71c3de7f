"""Code blocks of the documentation: where they stand, what they are, which commands they have."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PROGRAMS = ("nptp-opt", "nptp-opt-worker", "make", "pip", "git", "dask", "eval", "python", "cd")


@dataclass(frozen=True)
class Block:
    """A block of code: its page, its first line there, its language by the page or its text."""

    page: str
    line: int
    kind: str
    code: str


def blocks(page: Path) -> Iterator[Block]:
    """Fenced and indented blocks in their order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        start, fence = at, re.match(r"```(\w*)$", lines[at])
        if fence:
            at = next(k for k in range(at + 1, len(lines)) if lines[k] == "```")
            code = "\n".join(lines[start + 1 : at])
            yield Block(page.name, start + 2, fence[1] or kind_of(code), code)
        elif lines[at].startswith("    ") and not lines[at - 1].strip():
            while at + 1 < len(lines) and (lines[at + 1][:4] == "    " or not lines[at + 1]):
                at += 1
            code = textwrap.dedent("\n".join(lines[start : at + 1])).strip()
            yield Block(page.name, start + 1, kind_of(code), code)
        at += 1


def kind_of(code: str) -> str:
    """What a block without a language is, by its first words; empty where nothing fits."""
    first = code.split(maxsplit=1)[0].rpartition("/")[2]
    if first in (*PROGRAMS, "pytest"):
        return "shell"
    if first.startswith("{"):
        return "json"
    if re.match(r"(from|import) \w", code):
        return "python"
    if re.match(r"[\w-]+ = |\[", code):
        return "toml"
    return "text" if first == "weights:" else ""


def commands(code: str) -> Iterator[list[str]]:
    """The commands of a shell block as words, without comments."""
    for line in code.replace("\\\n", " ").splitlines():
        inner = re.fullmatch(r'eval "\$\((.*)\)"', line)
        for part in (inner[1] if inner else line).split("&&"):
            words = shlex.split(part, comments=True)
            if words:
                yield words
