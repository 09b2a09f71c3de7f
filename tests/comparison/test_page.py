"""The report's page in headless Chromium; skipped by name where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.comparison.page import page
from nptp_opt.comparison.records import Record, records_of
from nptp_opt.comparison.tables import tables
from tests.comparison.runs import row

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")

PROBE = """<script>
const count = s => document.querySelectorAll(s).length, seen = {};
addEventListener("load", () => setTimeout(() => {
  seen.charts = count(".chart svg"); seen.paths = count(".chart path");
  seen.bars = count(".chart rect.bar"); seen.titles = [...document.querySelectorAll(".chart h3")]
    .map(e => e.textContent);
  seen.dots = count("#scatter circle"); seen.rows = count("#list tr.run");
  seen.first = document.querySelector("#tables h2").textContent;
  seen.red = getComputedStyle(document.querySelector("#tables section")).borderTopColor;
  const set = (id, v) => { document.getElementById(id).value = v;
    document.getElementById(id).dispatchEvent(new Event("input")); };
  set("fi", "i1"); seen.filtered = count("#list tr.run");
  set("fc", "column-dp"); seen.narrowed = count("#list tr.run");
  document.querySelector("#list tr.run").click();
  seen.drilled = document.querySelector("#drill h2").textContent;
  seen.maps = count("#drill figure rect"); seen.history = count("#drill .chart path");
  set("sa", "nptp"); set("sb", "single"); set("sm", "measured");
  document.getElementById("sm").dispatchEvent(new Event("change"));
  seen.measured = count("#scatter circle");
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
  document.body.innerHTML = "<pre id=seen>" + JSON.stringify(seen) + "</pre>";
}, 300));
</script></body>"""


LINES = ["Performance profile: time to proof", "Performance profile: value", "Mean gap over time"]
BARS = ["Solved runs", "Proven optimal runs", "Primal integral (s, lower is better)"]
MEASURED = "Performance profile: measured latency"
RUNS = "value: strip (up) against column-dp (right)"


def sample() -> list[Record]:
    """Two layers and a network, two methods each; a bound contradicts a value."""
    tiles = [
        {"device": "a", "y0": 0, "y1": 3, "x0": 0, "x1": 6},
        {"device": "b", "y0": 3, "y1": 6, "x0": 0, "x1": 6},
    ]
    rows: list[dict[str, Any]] = [
        {
            "method": method,
            "instance": name,
            "tiles": tiles,
            "value_s": value,
            "bound_s": bound,
            "root_bound_s": bound / 2,
        }
        for method, value, bound in (("column-dp", 2.0, 2.0), ("strip", 1.0, 0.5))
        for name in ("i1", "i2")
    ]
    plan = [{"segment": "conv1", "tiles": tiles}, {"segment": "conv2", "tiles": tiles}]
    network = {"kind": "network", "instance": "net", "status": "feasible", "bound_s": 0.5}
    rows += [
        {**network, "method": method, "tiles": plan, "key": method} for method in ("nptp", "single")
    ]
    measured = {"how": "emulated", "measured_s": 2.0, "message": None}
    executions = {"nptp": measured, "single": {**measured, "measured_s": 3.0}}
    return records_of([row(**entry) for entry in rows], executions=executions)


def chromium(*words: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    return subprocess.run(
        [CHROMIUM, *fixed, *words], capture_output=True, text=True, timeout=120, check=True
    )


@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_draws_filters_and_drills_without_an_error(tmp_path: Path, width: int) -> None:
    found = sample()
    path = tmp_path / "page.html"
    path.write_text(page(found, tables(found)).replace("</body>", PROBE))
    done = chromium(
        "--enable-logging=stderr", "--virtual-time-budget=5000", f"--window-size={width},900",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri(),
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    seen = json.loads(done.stdout.split('<pre id="seen">')[1].split("</pre>")[0])
    assert (seen["charts"], seen["paths"], seen["dots"], seen["bars"]) == (15, 14, 2, 14)
    assert seen["titles"] == [
        *LINES,
        *BARS,
        "Gap closed at the root",
        *LINES,
        MEASURED,
        *BARS,
        RUNS,
    ]
    assert (seen["rows"], seen["filtered"], seen["narrowed"]) == (6, 2, 1)
    assert seen["first"].startswith("Contradictions")
    assert seen["red"] == "rgb(176, 0, 32)"
    assert (seen["drilled"], seen["maps"], seen["history"]) == ("i1", 4, 4)
    assert seen["measured"] == 1
    assert seen["overflow"] <= 0
