"""The documentation: its pages are there, and what they name is what the code has.

That links resolve is proven by the strict build (``make docs``).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from pydantic import BaseModel

from nptp_opt.cli import main
from nptp_opt.cluster import Device, NetworkLink
from nptp_opt.cluster.profiles import Link, MeasuredLayer, Profile
from nptp_opt.instances.networks import NetworkInstance
from nptp_opt.instances.reader import LayerEntry, LayerInstance
from nptp_opt.layer.registry import MethodSpec
from nptp_opt.plan.document import ModelEntry, PlanDocument, SegmentEntry, TileEntry, TransferEntry
from nptp_opt.plan.provenance import Provenance
from tools.docs import api, diagram, hooks, markdown, sections
from tools.docs.source import ROOT, definitions, module_at, modules

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PROSE = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
SKIPPED = {".git", ".venv", "build", "results"}
TEXTS = (".py", ".md", ".toml", ".json", ".yml")


def _leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for below in (
        node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    ):
        yield from _leaves(below)


def test_every_page_is_in_the_navigation_once() -> None:
    """A page that nothing leads to is not read, and one that is missing cannot be."""
    named = sorted(page for page in _leaves(CONFIG["nav"]) if page.endswith(".md"))
    assert named == [page.name for page in PAGES]
    assert "api/" in _leaves(CONFIG["nav"])


def test_nothing_is_loaded_from_elsewhere() -> None:
    """The site is built and read without network access: no fonts or scripts of others."""
    assert CONFIG["theme"]["font"] is False
    assert "extra_javascript" not in CONFIG
    assert all((DOCS / sheet).is_file() for sheet in CONFIG["extra_css"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_get_all_that_they_ask_for(page: Path) -> None:
    """Every mark names something that can be made, and makes something."""
    text = page.read_text(encoding="utf-8")
    filled = sections.fill(text)
    assert "\n<!-- generate" not in filled
    assert ("\n<!-- generate" in text) == (len(filled) > len(text))


def test_a_mark_that_nothing_answers_is_told_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"nothing generates 'comands'; known: .*commands"):
        sections.fill("<!-- generate: comands -->")
    with pytest.raises(ValueError, match=r"cost/none\.py: 0 modules"):
        sections.fill("<!-- generate: docstring cost/none.py -->")


def test_a_page_that_asks_for_the_unknown_is_named() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="cost.md"))
    with pytest.raises(PluginError, match=r"cost\.md: nothing generates 'x'"):
        hooks.on_page_markdown("<!-- generate: x -->", page)


def test_the_reference_has_a_place_in_the_navigation() -> None:
    """Its pages stand where mkdocs.yml has their folder."""
    config = MkDocsConfig()
    config.nav = CONFIG["nav"]
    named = set(_leaves(hooks.on_config(config).nav))
    assert {"api/index.md", "api/cost.md", "index.md"} <= named
    assert "api/" not in named


def test_scripts_and_modules_that_pages_name_exist() -> None:
    """A module that moves takes its pages with it."""
    there = [path.as_posix() for path in _repository_texts() if path.suffix == ".py"]
    for page in PROSE:
        named = re.findall(r"`((?:\w+/)*[a-z]\w*\.py)", page.read_text(encoding="utf-8"))
        for module in named:
            assert any(path.endswith(f"/{module}") for path in there), f"{page.name}: {module}"


def _named_commands() -> Iterator[tuple[str, list[str]]]:
    """Where a command is named in code, and its words up to a comment or a second command."""
    for page in PROSE:
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
            for said in re.findall(r"nptp-opt ([a-z][^`#|&]*)", line):
                if "`nptp-opt " in line or line.startswith(("    ", "nptp-opt ")):
                    yield f"{page.name}:{number}", said.split()


@pytest.mark.parametrize(("place", "words"), list(_named_commands()))
def test_commands_and_options_in_the_docs_exist(place: str, words: list[str]) -> None:
    """What a reader copies from a page is a command with options that it has."""
    command: click.Command = main
    while isinstance(command, click.Group):
        assert words and words[0] in command.commands, place
        command = command.commands[words.pop(0)]
        if not words:
            break
    known = {name for param in command.params for name in param.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= known, place


def test_each_word_of_the_glossary_is_explained_once() -> None:
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    lines = re.findall(r"^(\S.*)\n:   ", text, re.MULTILINE)
    words = [word for line in lines for word in line.split(", ")]
    assert len(words) > 50
    assert sorted(words) == sorted(set(words))


def _repository_texts() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        if path.suffix in TEXTS and not SKIPPED & set(path.relative_to(ROOT).parts):
            yield path


def test_what_refers_to_a_page_names_one_that_exists() -> None:
    """Bug: 24 places referred to sections of a design that was in no file of the repository."""
    pages = {page.name for page in PAGES}
    for path in _repository_texts():
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"(?<!tools/)\bdocs/([\w-]+\.md)\b", text))
        assert named <= pages, f"{path}: {sorted(named - pages)}"
        assert path == Path(__file__) or not re.search(r"[Dd]esign( section)? ?[§\d]", text), path


KEYS = [
    ("cluster.md", "`[network]`", NetworkLink, set()),
    ("cluster.md", "`[[device]]`", Device, {"profile"}),
    ("instances.md", "A layer instance", LayerInstance, set()),
    ("instances.md", "`layer`", LayerEntry, set()),
    ("instances.md", "A network instance", NetworkInstance, set()),
    ("profile.md", "The file", Profile, set()),
    ("profile.md", "`layers`", MeasuredLayer, set()),
    ("profile.md", "`link`", Link, set()),
    ("plan.md", "The document", PlanDocument, set()),
    ("plan.md", "`model`", ModelEntry, set()),
    ("plan.md", "`provenance`", Provenance, set()),
    ("plan.md", "`segments`", SegmentEntry, set()),
    ("plan.md", "`tiles`", TileEntry, set()),
    ("plan.md", "`transfers`", TransferEntry, set()),
]


@pytest.mark.parametrize(("page", "heading", "model", "more"), KEYS)
def test_tables_of_keys_are_complete(
    page: str, heading: str, model: type[BaseModel], more: set[str]
) -> None:
    """A file's page has every key that is read, and no other."""
    text = (DOCS / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)  # the first of each row
    named = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == set(model.model_json_schema(by_alias=True)["properties"]) | more


def test_every_formulation_opens_with_its_mathematics() -> None:
    """A formulation file's docstring has sets, variables, objective and rows."""
    for module in sections.formulation_modules():
        for word in ("Sets", "Variables", "Objective", "Rows"):
            assert re.search(rf"^{word} ", module.doc, re.MULTILINE), module.name


def test_the_example_of_an_extension_has_the_specification_s_fields() -> None:
    """Who copies it gets a specification that can be made."""
    text = (DOCS / "extending.md").read_text(encoding="utf-8")
    code = text.split("```python\n# first_alone.py\n")[1].split("```")[0]
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if ast.unparse(node.func) == "MethodSpec")
    assert [word.arg for word in call.keywords] == [field.name for field in fields(MethodSpec)]


def test_arrows_of_the_architecture_point_down() -> None:
    """Who imports stands above what is imported, or beside it in one box."""
    found, _ = diagram.boxes()
    box_of = {part: box for box in found for part in box.parts}
    graph = diagram.imports()
    assert {"geometry", "cost", "planner", "cli"} <= set(graph)
    for upper, lower in graph.edges:
        same = box_of[upper] is box_of[lower]
        assert same or box_of[upper].row > box_of[lower].row, (upper, lower)


def test_the_reference_has_every_public_name_once() -> None:
    """Each module is a section of one page, each public class and function a heading there."""
    text = "\n".join(api.pages().values())
    for module in modules().values():
        assert text.count(f"{{#{module.name}}}") == 1, module.name
        for node in definitions(module.tree.body):
            assert text.count(f"{{#{module.name}.{node.name}}}") == 1, (module.name, node.name)


def test_signatures_have_defaults_and_bare_marks() -> None:
    """A call is shown as it is written, without self, a line per argument where it is long."""
    nodes = {node.name: node for node in definitions(module_at("search/bounds.py").tree.body)}
    assert api.signature(nodes["configuration_bound"]) == (
        "def configuration_bound(problem: LayerProblem, limit_s: float = math.inf) -> float"
    )
    solve = next(definitions(module_at("layer/solve.py").tree.body))
    assert "\n    *,\n    solver: str | None = None,\n" in api.signature(solve)


def test_formulas_in_docstrings_are_no_markup() -> None:
    """Stars, underscores, brackets and angles of a docstring are shown as they are."""
    assert markdown.inline("sum_i w_i * [a, b) <= x, ``w_i*h_i``") == (
        "sum\\_i w\\_i \\* \\[a, b) &lt;= x, ``w_i*h_i``"
    )
    assert markdown.inline("A *step*, **half-open**, a *b* c, 2*w*h") == (
        "A *step*, **half-open**, a *b* c, 2\\*w\\*h"
    )
    assert markdown.inline("as in docs/cost.md", "../") == "as in [docs/cost.md](../cost.md)"
    assert markdown.render("One:\n* a\n  b\n* c\n\n    x = y_i") == (
        "One:\n\n* a b\n* c\n\n```text\n    x = y_i\n```"
    )
