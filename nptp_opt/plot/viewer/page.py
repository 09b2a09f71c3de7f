"""The viewer's page as one HTML file: data, styles and script inside, nothing from the network."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from nptp_opt.files import write_text
from nptp_opt.plan.model import Plan
from nptp_opt.plot.viewer.data import viewer_data
from nptp_opt.plot.viewer.measured import MeasuredRun


def write_viewer(
    path: Path,
    plans: Mapping[str, Plan],
    measured: Mapping[str, MeasuredRun] | None = None,
) -> None:
    """Write the page of one plan or two, by what they are called; ``measured`` as there.

    Raises InputError where the file cannot be written.
    """
    write_text(path, viewer_page(plans, measured))


def viewer_page(
    plans: Mapping[str, Plan], measured: Mapping[str, MeasuredRun] | None = None
) -> str:
    """The page's text; names of devices, layers and files are text in it, whatever they hold."""
    parts = {
        "TITLE": _plain(f"{', '.join(plans)}: nptp-opt"),
        "STYLE": _file("viewer.css"),
        "SCRIPT": _file("viewer.js"),
        # "<" could end the script element that holds the data, or open a comment in it.
        "DATA": json.dumps(
            viewer_data(plans, measured), separators=(",", ":"), allow_nan=False
        ).replace("<", "\\u003c"),
    }
    return re.sub(
        r"/\*(TITLE|STYLE|SCRIPT|DATA)\*/", lambda mark: parts[mark[1]], _file("page.html")
    )


def _plain(text: str) -> str:
    """As HTML text that any encoding carries: a file's name may have lone surrogates."""
    return html.escape(text).encode("ascii", "xmlcharrefreplace").decode()


def _file(name: str) -> str:
    return resources.files("nptp_opt.plot.viewer").joinpath(name).read_text("utf-8")
