"""Screenshots of the plan viewer for the documentation, by headless Chromium.

    python -m tools.screenshots [PAGE] [FOLDER]

PAGE is a viewer page, by default that of `make demo`; FOLDER is docs/pictures.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

MOST_BYTES = 200_000
STEP = 5
"""The step of the demo's plan that is shown: it has halos, and devices wait in it."""

SHOTS = {
    "viewer-step": (1200, 1120, ""),
    "viewer-timeline": (1200, 800, "header, #player, #saying, section:nth-child(-n+2), "
                                   "section:last-child { display: none; }"),
    "viewer-narrow": (400, 1000, ""),
}  # fmt: skip
"""Width and height in pixels, and more of a style, by name."""

FRAME = """<!doctype html><style>body{{margin:0}}</style><iframe id="page" srcdoc="{page}"
style="width:{width}px;height:{height}px;border:0"></iframe>"""
"""A window of Chromium is at least 500 pixels wide; a frame may be narrower."""


def screenshot(page: str, width: int, height: int, style: str, to: Path) -> None:
    """The page at a chosen step, as a PNG; ends where Chromium is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("tools.screenshots: needs Debian's package chromium")
    added = f"<style>{style}</style><script>choose(0, {STEP}, true)</script>"
    shown = page.replace("</body>", f"{added}</body>")
    escaped = shown.replace("&", "&amp;").replace('"', "&quot;")
    with tempfile.TemporaryDirectory() as folder:
        frame = Path(folder, "frame.html")
        frame.write_text(FRAME.format(page=escaped, width=width, height=height))
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                   "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile",
                   "--virtual-time-budget=4000", f"--window-size={max(500, width)},{height}",
                   f"--screenshot={folder}/shot.png", frame.as_uri()]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        with Image.open(Path(folder, "shot.png")) as image:
            image.convert("RGB").crop((0, 0, width, height)).save(to, optimize=True)


def main(page: Path, folder: Path) -> None:
    if not page.is_file():
        sys.exit(f"tools.screenshots: {page} is not there: run `make demo` first")
    folder.mkdir(exist_ok=True)
    for name, (width, height, style) in SHOTS.items():
        path = folder / f"{name}.png"
        screenshot(page.read_text("utf-8"), width, height, style, path)
        size = path.stat().st_size
        print(f"{path}: {width} x {height}, {size / 1e3:.0f} kB")
        if size > MOST_BYTES:
            sys.exit(f"tools.screenshots: {path} is larger than {MOST_BYTES / 1e3:.0f} kB")


if __name__ == "__main__":
    given = [Path(word) for word in sys.argv[1:]]
    main(*given, *(Path("demo/plan.html"), Path("docs/pictures"))[len(given) :])
