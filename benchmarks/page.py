"""The service's page in Debian's chromium: its picture for the documents, and how fast the item map moves with 100,000 items.

laserrec serve RUN                                                       # RUN is a model of MovieLens for the picture
python -m benchmarks.page picture http://127.0.0.1:8000 docs/figures/page.png
python -m benchmarks.page frames http://127.0.0.1:8000
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from laserrec.laser.item_map import ItemMap
from laserrec.serving.item_map import written

if TYPE_CHECKING:
    from playwright.sync_api import Page

OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
FILMS = ("Alien", "Blade Runner", "2001: A Space Odyssey")
ITEMS = 100_000
FRAMES = 120
MOVE = """() => new Promise(done => {
  const map = document.getElementById("map"), times = [], draws = [], frames = %d;
  let last = null;
  function frame(now) {
    if (last !== null) {
      times.push(now - last);
      draws.push(performance.now() - now); // the map's own callback was called first in this frame
    }
    last = now;
    if (times.length === frames) return done([times, draws]);
    const key = times.length %% 40 < 20 ? ["ArrowLeft", "+"] : ["ArrowRight", "-"];
    map.dispatchEvent(new KeyboardEvent("keydown", { key: key[times.length %% 2] }));
    requestAnimationFrame(frame);
  }
  requestAnimationFrame(frame);
})"""


@contextmanager
def opened(address: str, width: int = 1280, height: int = 860) -> Iterator[Page]:
    """Yield a page of a browser of its own, which shows nothing yet."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=list(OPTIONS))
        yield browser.new_page(base_url=address, viewport={"width": width, "height": height})
        browser.close()


def picture(address: str, out: str) -> None:
    """Save a picture of a history of three films, and why the first recommendation is there."""
    with opened(address) as page:
        page.goto("/")
        for film in FILMS:
            field = page.get_by_role("combobox", name="Add an item")
            field.fill(film)
            page.get_by_role("listbox", name="Add an item").get_by_role("option").first.wait_for()
            field.press("Enter")
            page.locator("#history").get_by_text(film, exact=True).wait_for()
            page.wait_for_function("() => !document.querySelector('#columns[aria-busy]')")
        page.get_by_role("button", name="Why").first.click()
        page.locator(".bars").first.wait_for()
        page.mouse.move(0, 0)
        page.screenshot(path=out)


def synthetic(count: int) -> ItemMap:
    """Return a map of some clusters, as large catalogues have them."""
    draw = np.random.default_rng(0)
    kinds = draw.integers(0, 8, count)
    places = (draw.normal(size=(8, 2))[kinds] + 0.4 * draw.normal(size=(count, 2))).astype(np.float32)
    rows = range(count)
    attributes = [{"kind": f"k{kind}"} for kind in kinds]
    return ItemMap(count, [f"i{row}" for row in rows], [f"Item {row}" for row in rows], places, (0.1, 0.05), attributes)


def frames(address: str) -> None:
    """Print how long frames take while the map is moved and enlarged."""
    with opened(address) as page:
        page.route("**/v1/map?*", lambda route: route.fulfill(body=written(synthetic(ITEMS)), content_type="application/json"))
        page.goto("/#map")
        page.locator("#map-note").get_by_text(f"All {ITEMS:,} items").wait_for()
        taken = page.evaluate(MOVE % FRAMES)
    for name, times in zip(("from frame to frame", "of it, to draw"), taken, strict=True):
        median, most = statistics.median(times), statistics.quantiles(times, n=20)[-1]
        sys.stdout.write(f"{ITEMS:,} items, {len(times)} frames, {name}: median {median:.1f} ms, 95 % within {most:.1f} ms\n")


if __name__ == "__main__":
    {"picture": picture, "frames": frames}[sys.argv[1]](*sys.argv[2:])
