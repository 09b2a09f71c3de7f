"""Where mkdocs calls us: generated pages, their place in the navigation, generated sections."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # mkdocs loads this file by its path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from tools.docs import api, sections

REFERENCE = "api"
"""Folder of the generated reference, and the place in the navigation that stands for it."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference's pages where the navigation has their folder."""
    pages = [f"{REFERENCE}/{name}.md" for name in api.pages()]
    assert config.nav is not None, "mkdocs.yml has a navigation"
    config.nav = _expand(config.nav, pages)
    return config


def _expand(node: Any, pages: list[str]) -> Any:
    if isinstance(node, list):
        return [_expand(each, pages) for each in node]
    if isinstance(node, dict):
        return {title: _expand(below, pages) for title, below in node.items()}
    return pages if node == f"{REFERENCE}/" else node


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, text in api.pages().items():
        files.append(File.generated(config, f"{REFERENCE}/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace the page's marks by what they ask for."""
    try:
        return sections.fill(markdown)
    except ValueError as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from None
