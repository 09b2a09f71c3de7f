"""The viewer's page: self-contained, safe whatever the names are, and used in headless Chromium
(skipped by name where there is none)."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nptp_opt.geometry import Tile
from nptp_opt.plot.viewer.measured import load_trace
from nptp_opt.plot.viewer.page import viewer_page
from nptp_opt.runtime.profiling.timeline import chrome_trace
from tests.builders import conv_chain, make_cluster
from tests.plot.viewer.plans import plan_of, spans_of, two_devices

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

HOSTILE = ("</script><script>window.hacked = 1</script>", "<!--<script>'\"&/*DATA*/\ud800")
"""Names of devices that would end the data, hide what follows, or be filled in."""

VGG16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
DIVIDES = {2, 4, 7, 10}
"""Channels of VGG-16's convolutions, and those that here have stride 2 in place of a pool."""


def grid(height: int, width: int) -> dict[int, Tile]:
    """4 x 2 tiles on eight devices."""
    rows = [height * k // 4 for k in range(5)]
    halves = (0, width // 2, width)
    return {
        2 * r + c: Tile(rows[r], rows[r + 1], halves[c], halves[c + 1])
        for r in range(4)
        for c in range(2)
    }


@pytest.mark.parametrize("fuse", [1, 4])
def test_the_page_of_maps_as_vgg16_s_on_eight_devices_is_small(fuse: int) -> None:
    """Every convolution a step of its own has the most transfers, fused ones inner maps."""
    specs = [{"channels": c, "stride": 1 + (k in DIVIDES)} for k, c in enumerate(VGG16)]
    network = conv_chain((1, 3, 224, 224), specs)
    plan = plan_of(network, make_cluster([20.0] * 8, rates=50.0), grid, fuse=fuse)
    assert len(viewer_page({"p": plan}).encode()) < 500 * 1024
    both = {"p": plan, "q": plan}
    assert len(viewer_page(both).encode()) < 500 * 1024


def test_nothing_is_loaded_from_elsewhere() -> None:
    """The one address is the name of SVG, which is not loaded; scripts and styles are inside."""
    page = viewer_page({"p": two_devices()})
    assert set(re.findall(r"https?:[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<link(?! rel=\"icon\" href=\"data:,\")|<script [^>]*src|@import", page)
    assert "default-src 'none'" in page
    assert not re.search(r"/\*(TITLE|STYLE|SCRIPT|DATA)\*/", page)


def test_names_are_text() -> None:
    """A name of a device, layer or file neither ends the script with the data nor opens a tag."""
    plain = viewer_page({"p": two_devices()})
    page = viewer_page({f"{HOSTILE[0]}{HOSTILE[1]}": two_devices(names=HOSTILE)})
    page.encode()
    assert page.count("<script") == plain.count("<script")
    assert page.count("</script>") == plain.count("</script>")
    assert "<!--" not in page
    data = page.split('id="data">')[1].split("</script>")[0]
    assert [d["name"] for d in json.loads(data)["plans"][0]["devices"]] == list(HOSTILE)


ERRORS = """<script>
window.errors = [];
addEventListener("error", event => errors.push(event.message));
console.error = console.warn = (...words) => errors.push(words.join(" "));
</script>"""

TOOLS = """<script>
const seen = {}, all = s => [...document.querySelectorAll(s)], count = s => all(s).length;
const used = new Set(), wait = ms => new Promise(done => setTimeout(done, ms));
const click = node => { used.add(node); node.click(); };
const set = (node, value) => { used.add(node); node.value = value;
  node.dispatchEvent(new Event("input", {bubbles: true}));
  node.dispatchEvent(new Event("change", {bubbles: true})); };
const key = (node, name) => node.dispatchEvent(
  new KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
const chosen = p => state.views[p].step;
async function use() {"""

USE = """
  const [inner, plain] = [0, 1];  // the fused plan, the other one
  seen.hacked = window.hacked === undefined;
  seen.steps = count(".step"); seen.rows = count("tbody tr"); seen.bars = count(".stretch");
  seen.waits = count(".wait:not(.span)"); seen.spans = count(".span"); seen.chain = count(".chain");
  seen.critical = count(".stretch.critical"); seen.bounds = count(".lanes .bound");
  seen.for_whom = all("#path > div").map(part => part.querySelector("li").textContent);
  seen.wait_fills = [...new Set(all(".wait:not(.span)").map(n => n.getAttribute("fill")))].sort();
  seen.why = waitText(PLANS[1], PLANS[1].waits[0]);
  seen.run = all(".run").map(part => part.textContent);
  seen.titles = all("#totals h3").map(part => part.textContent);
  seen.link = all("#totals dt").map(part => part.textContent).filter(text => text.includes("busy"));
  seen.cells = [...all("#devices tbody")[plain].rows].map(
    row => [5, 6].map(k => row.cells[k].textContent));
  seen.name = all("#devices td")[0].textContent.slice(3);
  for (const button of all(".step")) click(button);
  seen.clicked = PLANS.map((_, p) => chosen(p));
  const row = state.views[plain].row;
  seen.keys = ["Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End"].map(name => {
    key(row.children[chosen(plain)], name); return chosen(plain); });
  seen.focused = document.activeElement === row.children[2];
  choose(plain, 1, true);
  seen.at = state.time;
  seen.halos = count(".halo"); click(byId("halos"));
  seen.no_halos = count(".halo"); click(byId("halos"));
  seen.arrows = count(".arrow"); click(byId("arrows"));
  seen.no_arrows = count(".arrow"); click(byId("arrows"));
  choose(inner, 0, true);
  const pick = () => all(".pick-map")[inner];
  const maps = [...pick().options].map((_, k) => {
    set(pick(), k); return all("figure svg")[inner].getAttribute("aria-label").split(" ")[1]; });
  seen.maps = maps;
  set(pick(), 1);
  seen.twice = count(".twice"); click(byId("repeated")); seen.not_twice = count(".twice");
  click(byId("repeated"));
  choose(plain, 1, true);
  const one = () => all(".pick-device")[plain];
  for (const option of [...one().options].map(o => o.value)) set(one(), option);
  seen.need = count(".need"); seen.dim = count(".dim");
  set(all(".pick-device")[plain], ""); set(all(".pick-device")[inner], "0");
  set(all(".pick-map")[plain], "1");
  const width = () => +all(".lanes .scroll svg")[0].getAttribute("width");
  const before = width(); click(byId("wider")); seen.wider = width() / before;
  all("#timeline .scroll")[0].scrollLeft = 40; await wait(50);
  seen.together = all("#timeline .scroll")[1].scrollLeft;
  click(byId("narrower")); seen.narrower = width() / before;
  click(byId("few")); seen.few = byId("few-label").hidden;
  set(byId("time"), 500); seen.half = state.time / D.end_s; seen.now = byId("now").textContent;
  seen.doing = all(".doing").map(cell => cell.textContent);
  seen.busy = count(".tile.busy");
  set(byId("time"), 1000); seen.end = all(".doing").map(cell => cell.textContent);
  const stretch = all(".stretch")[1];
  stretch.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  seen.stretch = state.time;
  click(byId("follow")); set(byId("time"), 0); const stays = chosen(plain); set(byId("time"), 850);
  seen.unfollowed = chosen(plain) === stays; click(byId("follow")); set(byId("time"), 850);
  seen.followed = chosen(plain);
  set(byId("speed"), "4"); set(byId("time"), 0);
  click(byId("play")); seen.playing = byId("play").textContent;
  for (let k = 0; k < 60 && !state.time; k++) await wait(50);
  seen.played = state.time > 0; click(byId("play")); const stopped = state.time;
  await wait(200); seen.paused = state.time === stopped;
  document.activeElement.blur(); key(document.body, " ");
  seen.space = state.playing; key(document.body, " ");
  setTime(.3); for (const p of [inner, plain]) { choose(p, 0, false);
    set(all(".pick-map")[p], "0"); }
  seen.flying = all(".dot").filter(dot => dot.getAttribute("visibility") === "visible").length;
  for (const summary of all("summary")) { used.add(summary); summary.click(); }
  await wait(50); seen.open = all("details").every(part => part.open);
  seen.path = count("#path ol li");
  const labels = node => node.id || node.className || node.textContent;
  seen.unused = all("button, input, select, summary").filter(node => !used.has(node) &&
    !node.matches(".pick-map, .pick-device")).map(labels);
  dispatchEvent(new Event("beforeprint"));
  seen.paper = Math.max(...all("main svg").map(node => +node.getAttribute("width")));
  dispatchEvent(new Event("afterprint"));
"""

MANY = """
  const rows = () => count(".lanes > svg rect");
  const tall = () => +all(".lanes svg")[0].getAttribute("height");
  seen.hidden = byId("few-label").hidden;
  seen.rows = rows(); seen.tall = tall();
  const guests = all("figure svg .tile").slice(1).map(node => node.getBoundingClientRect());
  seen.guests = guests.length; seen.columns = new Set(guests.map(box => box.left)).size;
  seen.figure = Math.max(...guests.map(box => box.bottom)) - guests[0].top;
  seen.arrows = count(".arrow");
  const tile = all("figure svg .tile")[40];
  tile.dispatchEvent(new MouseEvent("click", {bubbles: true}));
  seen.device = all(".pick-device")[0].value; seen.with_it = rows(); seen.its = count(".arrow");
  all("figure svg .tile")[40].dispatchEvent(new MouseEvent("click", {bubbles: true}));
  seen.again = all(".pick-device")[0].value;
  byId("few").click(); seen.all_rows = rows(); seen.all_tall = tall(); byId("few").click();
  seen.listed = all("#path > div > ul")[0].children.length;
  seen.folded = all("#path details")[0].querySelectorAll("li").length;
  seen.told = byId("totals").querySelector(".path").textContent.match(/computes? /g).length;
  seen.table = count("#devices tbody tr");
"""

SEEN = """
  seen.width = innerWidth;
  seen.overflow = document.documentElement.scrollWidth - innerWidth;
}
addEventListener("load", () => use().catch(error => errors.push(String(error))).then(() =>
  parent.postMessage(JSON.stringify({seen, errors}), "*")));
</script></body>"""

FRAME = """<!doctype html><title>frame</title><iframe src="page.html"
style="width:{width}px;height:900px;border:0"></iframe><script>
addEventListener("message", event => {{ const found = document.createElement("pre");
  found.id = "seen"; found.textContent = event.data; document.body.append(found); }});
</script>"""
"""A window of Chromium is at least 500 pixels wide; a frame may be narrower."""


def browsed(folder: Path, page: str, width: int, use: str) -> dict[str, Any]:
    """What the probe ``use`` saw in the page, in a frame of ``width`` pixels."""
    assert CHROMIUM is not None
    probed = page.replace("<noscript>", f"{ERRORS}<noscript>").replace(
        "</body>", TOOLS + use + SEEN
    )
    (folder / "page.html").write_text(probed)
    (folder / "frame.html").write_text(FRAME.format(width=width))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--enable-logging=stderr", "--virtual-time-budget=8000", "--window-size=1400,1000",
         f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    found = json.loads(html.unescape(done.stdout.split('<pre id="seen">')[1].split("</pre>")[0]))
    assert found["errors"] == []
    return dict(found["seen"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_every_control_works_without_an_error(tmp_path: Path, width: int) -> None:
    """The numbers are those of tests/plot/viewer/test_data.py; beside that plan the fused one, with
    hostile names and a run."""
    names = (HOSTILE[0], "<!--<script>'\"&/*DATA*/")
    fused, plain = two_devices(fuse=2, names=names), two_devices()
    trace = tmp_path / "trace.json"
    trace.write_text(json.dumps(chrome_trace(fused, spans_of(fused), void=True)))
    page = viewer_page({"a": fused, "b": plain}, {"a": load_trace(trace, fused)})
    seen = browsed(tmp_path, page, width, USE)
    assert (seen["hacked"], seen["name"]) == (True, HOSTILE[0])
    assert (seen["steps"], seen["chain"], seen["spans"]) == (5, 2, 7)
    assert seen["bars"] == (3 + 2 * 2) + (5 + 2 * 4)  # tasks, and messages at both ends
    assert seen["waits"] == 2 + 3
    assert seen["critical"] == (2 + 2 * 2) + (3 + 2 * 2)
    assert seen["bounds"] == 2
    assert seen["wait_fills"] == ["url(#wait-0)", "url(#wait-1)"]  # each waits for the other
    assert seen["for_whom"][1] == "d0 waits 900 ms: 900 ms for d1"
    assert seen["why"] == (
        "d0 waits 600 ms for d1 before step 1 (conv1): 500 ms until it begins to send, "
        "100 ms on the way"
    )
    assert len(seen["run"]) == 1 and seen["run"][0].startswith(
        "VOID: this machine was too slow, or too busy, to emulate the devices' speeds. "
        f"The run took 550 ms less than predicted (16.9 %). {HOSTILE[0]} computed 1.1 s longer "
    )
    assert seen["titles"][1] == "b, 2 devices of cluster (switched network)"
    assert seen["link"][1] == "the busiest link, d0 out, is busy"
    assert seen["cells"] == [
        ["768 B (20.7 %)", "640 B (17.2 %)"],
        ["640 B (17.2 %)", "768 B (20.7 %)"],
    ]
    assert seen["clicked"] == [0, 2]  # step 2 begins at 2.5 s: the other plan follows
    assert (seen["keys"], seen["focused"]) == ([0, 1, 2, 1, 2], True)
    assert seen["at"] == 1.0
    assert (seen["halos"], seen["no_halos"], seen["arrows"], seen["no_arrows"]) == (3, 0, 3, 0)
    assert seen["maps"] == ["input", "conv0", "conv1"]
    assert (seen["twice"], seen["not_twice"], seen["need"], seen["dim"]) == (1, 0, 1, 1)
    assert (seen["wider"], seen["narrower"], seen["together"]) == (2, 1, 40)
    assert seen["few"]  # hidden: the devices are few anyway
    assert seen["half"] == 0.5 and seen["now"] == "1.625 s"  # the fused plan takes 3.25 s
    assert seen["doing"][2:] == ["computes step 1 (conv1)"] * 2
    assert seen["end"] == ["done"] * 4
    assert seen["unfollowed"] and seen["followed"] == 2
    assert (seen["playing"], seen["played"], seen["paused"], seen["space"]) == (
        "Pause", True, True, True,
    )  # fmt: skip
    assert seen["flying"] == 2  # to d1, in both plans
    assert seen["open"] and seen["path"] == 4 + 5
    assert seen["unused"] == []
    assert 300 < seen["paper"] < 680  # of A4's 794 pixels, with margins
    assert seen["width"] == width and seen["overflow"] <= 0


def squares(height: int, width: int) -> dict[int, Tile]:
    """8 x 8 tiles on 64 devices."""
    y, x = height // 8, width // 8
    return {
        8 * r + c: Tile(r * y, (r + 1) * y, c * x, (c + 1) * x) for r in range(8) for c in range(8)
    }


@pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium")
@pytest.mark.parametrize("width", [400, 1200])
def test_sixty_four_devices_can_be_read(tmp_path: Path, width: int) -> None:
    """They filled 2,700 pixels of timeline, a column of 1,500 beside the first map that was cut in
    print, and 64 lines of who waits: now the critical path's come first, the others on demand."""
    speeds = [20.0] * 16 + [10.0] * 24 + [4.0] * 24
    network = conv_chain((1, 3, 32, 32), [{"channels": 8}, {"channels": 8}])
    plan = plan_of(network, make_cluster(speeds, rates=50.0), squares)
    seen = browsed(tmp_path, viewer_page({"p": plan}), width, MANY)
    assert not seen["hidden"]
    assert 0 < seen["rows"] < 16 < seen["all_rows"] == 64
    assert seen["tall"] < 700 < seen["all_tall"]
    assert (seen["guests"], seen["columns"]) == (63, 4) and seen["figure"] < 500
    assert (seen["arrows"], seen["its"]) == (0, 1)  # the source sends to 63 others
    assert (seen["device"], seen["again"]) == ("40", "")
    assert seen["with_it"] in (seen["rows"], seen["rows"] + 1)
    assert (seen["listed"], seen["folded"], seen["table"]) == (8, 56, 64)
    assert seen["told"] <= 9
    assert seen["width"] == width and seen["overflow"] <= 0
