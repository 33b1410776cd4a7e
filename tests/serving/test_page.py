"""The page in a real browser, over a real service of a tiny trained model: the journey, errors, hostile titles, themes, widths."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from served import Served

from laserrec.laser.item_map import ItemMap
from laserrec.serving.access import make_key
from laserrec.serving.api import PAGE
from laserrec.serving.item_map import written
from laserrec.serving.sql_store import SqlStore

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Route

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install 'laserrec[dev]'")
axe_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed: pip install 'laserrec[dev]'")
expect = playwright.expect

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script><b> \u202etac\u202c ' + "W" * 300
SEEN = {"anna": ["tent", "stove", "bag"], "ben": ["kite", "map"]}


@pytest.fixture(scope="module")
def served(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of two models, with the events of two users."""
    folder = tmp_path_factory.mktemp("page")
    found = Served(model_folder, f"sqlite:///{folder / 'store.db'}", folder, {"poll": 0.05}, ("--model", f"second={model_folder}:0.5"))
    found.start()
    events = [{"user_id": user, "item_id": item_id} for user, items in SEEN.items() for item_id in items]
    assert found.ask("POST", "/v1/events", {"events": events})[1]["accepted"] == 5
    yield found
    found.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium."""
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield launched
        launched.close()


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Callable[..., Page]]:
    """A function that opens the page; whatever its scripts complain of fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        # The browser itself notes answers that are errors and servers that are gone; tests provoke both.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            complaints.append(message.text)

    def opened(path: str = "/", theme: str = "light", width: int = 1280) -> Page:
        contexts.append(browser.new_context(color_scheme=theme, viewport={"width": width, "height": 800}))
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", complain)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"http://127.0.0.1:{served.port}{path}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not complaints


def titles(page: Page, model: str = "default") -> list[str]:
    return list(page.get_by_role("list", name=f"Recommendations of {model}", exact=True).locator(".line .title").all_inner_texts())


def history(page: Page) -> list[str]:
    return list(page.locator("#history .title").all_inner_texts())


def expected(served: Served, *items: str, k: int = 10) -> list[str]:
    """The titles that the service recommends after a history."""
    return [item["title"] for item in served.ask("POST", "/v1/recommendations", {"items": items, "k": k, "preview": True})[1]["items"]]


def shown(page: Page, wanted: list[str]) -> None:
    expect(page.get_by_role("list", name="Recommendations of default", exact=True).locator(".line .title")).to_have_text(wanted)


def accessible(page: Page) -> None:
    found = axe_playwright.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def no_wider_than_the_window(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")


def test_the_first_view_is_small_and_comes_from_the_service_alone() -> None:
    assert sum(path.stat().st_size for path in PAGE.iterdir()) < 200_000
    texts = {path.name: path.read_text() for path in PAGE.iterdir()}
    assert not any(
        re.search(r"\sstyle=|\son\w+=|<style|<script(?! type=\"module\" src)", text) for name, text in texts.items() if name[-4:] == "html"
    )
    assert not any(
        word in text for text in texts.values() for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    )
    assert not any(re.search(r"https?://(?!www\.w3\.org/2000/svg)", text) for text in texts.values())


def test_the_journey_by_keyboard(visit: Callable[..., Page], served: Served) -> None:
    page = visit()
    expect(page.locator("#list-note")).to_contain_text("what is popular")

    # A user, from the list of the latest.
    page.get_by_role("combobox", name="User").focus()
    page.keyboard.type("an")
    expect(page.get_by_role("listbox", name="User").get_by_role("option")).to_have_text(["anna"])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="History of anna")).to_be_visible()
    first = expected(served, "tent", "stove", "bag")
    shown(page, first)
    assert history(page) == ["Tent", "Camping stove", "Sleeping bag"]
    assert page.url.endswith("#user=anna")

    # An item by its title: the list changes at once, and says how.
    page.get_by_role("combobox", name="Add an item").focus()
    page.keyboard.type("comp")
    expect(page.get_by_role("listbox", name="Add an item").get_by_role("option")).to_contain_text(["Compass"])
    page.keyboard.press("Enter")
    second = expected(served, "tent", "stove", "bag", "compass")
    shown(page, second)
    expect(page.locator("#list-note")).to_contain_text("against the stored history")
    expect(page.locator("#preview-words")).to_have_text("Preview: 1 added. Nothing is saved yet.")
    for place, title in enumerate(second):
        mark = page.get_by_role("list", name="Recommendations of default", exact=True).locator("li.card").nth(place).locator(".mark")
        by = first.index(title) - place if title in first else None
        wanted = "" if by == 0 else "camecame into the list" if by is None else f"▲{by}rose by {by}" if by > 0 else f"▼{-by}fell by {-by}"
        assert (mark.text_content() or "") == wanted, title
    went = [title for title in first if title not in second]
    assert page.locator(".column").first.locator(".gone .title").all_inner_texts() == went
    assert "Compass" in went

    # Nothing is kept before it is saved; saved once, it is one event.
    assert len(served.ask("GET", "/v1/users/anna/history")[1]["events"]) == 3
    page.get_by_role("button", name="Save as events").press("Enter")
    expect(page.get_by_role("textbox", name="User")).to_be_focused()
    page.get_by_role("textbox", name="Kind of event").fill("purchase")
    page.get_by_role("button", name="Save 1 event").press("Enter")
    expect(page.locator("#preview-words")).to_have_text("1 event of anna saved.")
    expect(page.get_by_role("heading", name="History of anna")).to_be_focused()
    events = served.ask("GET", "/v1/users/anna/history")[1]["events"]
    assert [(event["item_id"], event["kind"]) for event in events][3:] == [("compass", "purchase")]

    # Removing keeps the keyboard's place, and so does discarding.
    page.get_by_role("button", name="Remove Camping stove").press("Enter")
    expect(page.get_by_role("button", name="Remove Sleeping bag")).to_be_focused()
    shown(page, expected(served, "tent", "bag", "compass"))
    page.get_by_role("button", name="Move Compass earlier").press("Enter")
    expect(page.get_by_role("button", name="Move Compass earlier")).to_be_focused()
    shown(page, expected(served, "tent", "compass", "bag"))
    page.get_by_role("button", name="Discard").press("Enter")
    shown(page, second)
    accessible(page)


def test_why_in_levels(visit: Callable[..., Page], served: Served) -> None:
    page = visit("/#user=ben")
    body = {"items": ["kite", "map"], "k": 1, "explain": True, "preview": True}
    (item,) = served.ask("POST", "/v1/recommendations", body)[1]["items"]
    button = page.get_by_role("list", name="Recommendations of default", exact=True).get_by_role("button", name=f"Why {item['title']}")
    button.press("Enter")
    expect(button).to_have_attribute("aria-expanded", "true")
    why = page.locator(f"#{button.get_attribute('aria-controls')}")
    expect(why.locator(".sentence")).to_have_text(item["why"]["sentence"])

    def written(number: float) -> str:
        return f"{number:+.2f}".replace("-", "−")

    moves = sorted(item["why"]["moves"], key=lambda move: -abs(move["by"]))
    assert why.locator(".bars .title").all_inner_texts() == [move["title"] for move in moves]
    assert why.locator(".bars .number").all_inner_texts() == [written(move["by"]) for move in moves]
    widths = [bar.evaluate("bar => bar.getBoundingClientRect().width / bar.parentElement.clientWidth") for bar in why.locator(".bar").all()]
    assert widths == pytest.approx([abs(move["by"] / moves[0]["by"]) / 2 for move in moves], abs=0.02)
    expect(why.locator(".terms")).to_be_hidden()
    why.get_by_text("How it was computed").press("Enter")
    terms = [written(term) for term in item["why"]["terms"].values() if term is not None]
    assert why.locator(".terms tbody .number").all_inner_texts() == terms
    expect(why.locator(".terms tfoot .number")).to_have_text(f"{item['score']:.2f}".replace("-", "−"))
    expect(why).to_contain_text(f"Expert {item['why']['expert'] + 1} read the history")
    accessible(page)


def test_two_models_side_by_side_or_one(visit: Callable[..., Page], served: Served) -> None:
    page = visit("/#user=ben")
    wanted = expected(served, "kite", "map")
    shown(page, wanted)
    assert titles(page, "second") == wanted  # the same folder twice
    expect(page.locator("#list-note")).to_contain_text(f"{len(wanted)} of {len(wanted)} are in both lists.")
    assert page.get_by_text("in both", exact=True).count() == 2 * len(wanted)
    page.get_by_role("combobox", name="beside").select_option("none")
    expect(page.locator(".column")).to_have_count(1)
    assert page.get_by_text("in both", exact=True).count() == 0


def test_with_and_without_the_collaborative_prefix(visit: Callable[..., Page], served: Served) -> None:
    page = visit("/#user=ben")
    shown(page, expected(served, "kite", "map"))
    name = "default without collaborative prefix"
    page.get_by_role("combobox", name="beside").select_option(name)
    body = {"items": ["kite", "map"], "collaborative_prefix": False, "preview": True}
    bare = served.ask("POST", "/v1/recommendations", body)[1]["items"]
    cards = page.get_by_role("list", name=f"Recommendations of {name}")
    expect(cards.locator(".line .title")).to_have_text([item["title"] for item in bare])
    ranks = {title: rank for rank, title in enumerate(titles(page), 1)}
    for rank, item in enumerate(bare, 1):
        card = cards.locator("li.card").nth(rank - 1)
        assert card.get_by_text("in both", exact=True).count() == int(item["title"] in ranks)
        there = ranks.get(item["title"], rank)
        assert card.get_by_text(f"number {there} there").count() == int(there != rank)
    cards.get_by_role("button", name="Why").first.press("Enter")
    written = f"{bare[0]['score']:.2f}".replace("-", "−")
    expect(page.locator(".why p").first).to_contain_text(f"Without the collaborative prefix the score is {written}")
    accessible(page)


def on_map(page: Page) -> list[str]:
    expect(page.locator("#map-frame")).not_to_have_attribute("aria-busy", "true")
    return list(page.locator("#map-path .title").all_inner_texts())


def inked(page: Page) -> int:
    """How many pixels of the map are not its background."""
    return int(
        page.evaluate("""() => {
            const map = document.getElementById("map"), all = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
            let found = 0;
            for (let at = 0; at < all.length; at += 4) found += all[at] !== all[0] || all[at + 1] !== all[1] || all[at + 2] !== all[2];
            return found;
        }""")
    )


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 320)])
def test_the_map_by_keyboard_and_as_lists(visit: Callable[..., Page], served: Served, theme: str, width: int) -> None:
    page = visit("/#map&user=anna", theme=theme, width=width)
    count = len(served.ask("GET", "/v1/map")[1]["item_ids"])
    expect(page.locator("#map-note")).to_contain_text(f"All {count} items")
    stored = [event["title"] for event in served.ask("GET", "/v1/users/anna/history")[1]["events"]]
    expect(page.locator("#map-path .title")).to_have_text(stored)
    expect(page.locator("#map-next .title").first).to_be_visible()
    expect(page.get_by_role("application", name=f"Map of {count} items")).to_be_visible()
    before = inked(page)
    assert before > 100

    # An item by its title: it is chosen, and those nearest to it are listed, each of which can be chosen in turn.
    page.get_by_role("combobox", name="Find an item").fill("stove")
    expect(page.get_by_role("listbox", name="Find an item").get_by_role("option")).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.locator("#map-chosen h3")).to_have_text("Camping stove")
    nearest = [item["title"] for item in served.ask("GET", "/v1/items/stove/similar?k=8")[1]["items"]]
    expect(page.locator("#map-chosen .title")).to_have_text(["Camping stove", *nearest])
    expect(page.locator("#live")).to_have_text(f"Camping stove is chosen. Nearest: {', '.join(nearest[:3])}.")
    page.locator("#map-chosen").get_by_role("button", name=nearest[0], exact=True).press("Enter")
    expect(page.locator("#map-chosen h3")).to_have_text(nearest[0])

    # The item in the middle is the one that was chosen, so Enter chooses it again after another one.
    page.locator("#map-path").get_by_role("button").first.press("Enter")
    expect(page.locator("#map-chosen h3")).to_have_text(stored[0])
    page.locator("#map").focus()
    page.keyboard.press("+")
    page.keyboard.press("Enter")
    expect(page.locator("#map-chosen h3")).to_have_text(stored[0])
    page.keyboard.press("0")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(200)
    assert inked(page) < before
    page.get_by_role("button", name="All", exact=True).click()

    # One colour alone, and another user.
    page.get_by_role("combobox", name="User").fill("ben")
    page.keyboard.press("Enter")
    expect(page.locator("#map-path .title")).to_have_text(["Kite", "Map of the Alps"])
    assert page.url.endswith("#map&user=ben")
    no_wider_than_the_window(page)
    accessible(page)


def test_a_map_of_a_hundred_thousand_hostile_items_moves(visit: Callable[..., Page], served: Served) -> None:
    draw = np.random.default_rng(0)
    count = 100_000
    places = draw.normal(size=(count, 2)).astype(np.float32)
    attributes = [({"kind": "<b>one</b>"}, {"kind": "two"}, {})[row % 3] for row in range(count)]
    names = [f"{HOSTILE} {row}" if row < 10 else f"Item {row}" for row in range(count)]
    body = written(ItemMap(2 * count, [str(row) for row in range(count)], names, places, (0.5, 0.25), attributes))
    page = visit()
    page.route("**/v1/map?*", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.get_by_role("link", name="Map").click()
    expect(page.locator("#map-note")).to_contain_text("100,000 of 200,000 items, evenly spread. ")
    expect(page.locator("#map-legend")).to_contain_text("<b>one</b>")
    first = inked(page)
    # Draws thirty times, each time a key was pressed; the figure itself is benchmarks/page.py's, this bound allows for a busy machine.
    taken = page.evaluate("""() => new Promise(done => {
        const begun = performance.now();
        let left = 30;
        function frame() {
            if (!left) return done((performance.now() - begun) / 30);
            left -= 1;
            document.getElementById("map").dispatchEvent(new KeyboardEvent("keydown", { key: left % 2 ? "ArrowLeft" : "+" }));
            requestAnimationFrame(frame);
        }
        frame();
    })""")
    assert taken < 500
    assert inked(page) != first
    page.locator("#map").press("0")
    page.locator("#map").click(position={"x": 300, "y": 200})
    expect(page.locator("#map-chosen .error")).to_have_text("There is no item of this id.")
    page.get_by_role("button", name="<b>one</b>").press("Enter")
    expect(page.get_by_role("button", name="<b>one</b>")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="<b>one</b>")).to_be_focused()
    accessible(page)


def test_a_map_that_fails_says_so_and_can_be_asked_for_again(visit: Callable[..., Page], served: Served) -> None:
    page = visit()
    held: list[Route] = []
    page.route("**/v1/map?*", lambda route: held.append(route) if not held else route.continue_())
    page.get_by_role("link", name="Map").click()
    expect(page.locator("#map-frame")).to_have_attribute("aria-busy", "true")
    height = page.locator("#map-frame").bounding_box()["height"]
    held[0].abort()
    expect(page.locator("#map-error")).to_contain_text("cannot be reached")
    accessible(page)
    page.locator("#map-error").get_by_role("button", name="Try again").click()
    expect(page.locator("#map-note")).to_contain_text("items")
    expect(page.locator("#map-error")).to_be_empty()
    assert page.locator("#map-frame").bounding_box()["height"] == height


def test_a_new_item_is_ranked_for_the_present_history_and_taken_out_again(visit: Callable[..., Page], served: Served) -> None:
    page = visit("/#user=ben")
    shown(page, expected(served, "kite", "map"))
    page.get_by_role("textbox", name="Title").fill("Canoe")
    page.get_by_role("textbox", name="brand").fill("Alp")
    page.get_by_role("textbox", name="Id").fill("canoe")
    page.get_by_role("button", name="Add it and rank it").press("Enter")
    expect(page.locator("#new-result")).to_be_focused()
    ranked = expected(served, "kite", "map", k=200)
    expect(page.locator("#new-result")).to_contain_text(f"Canoe is live, and number {ranked.index('Canoe') + 1} of the first {len(ranked)}")
    assert served.ask("GET", "/v1/items/canoe")[1]["attributes"] == {"title": "Canoe", "brand": "Alp"}
    latest = served.ask("GET", "/v1/users?query=&k=12")[1]["user_ids"]
    ranks = {}
    for user in latest:
        found = served.ask("POST", "/v1/recommendations", {"user_id": user, "k": 100, "preview": True})[1]["items"]
        ranks[user] = [item["item_id"] for item in found]
    places = sorted((ids.index("canoe") + 1, latest.index(user)) for user, ids in ranks.items() if "canoe" in ids)
    expect(page.locator("#new-users li")).to_have_text([f"User {latest[row]}number {place}" for place, row in places])
    expect(page.locator("#new-users")).to_contain_text(f"among the first 100 of {len(places)} of the {len(latest)} latest users")
    page.locator("#new-result").get_by_role("button", name="Why").press("Enter")
    expect(page.locator("#new-result .sentence")).to_contain_text("moves the score by")
    accessible(page)
    page.get_by_role("textbox", name="Title").fill("Another")
    page.get_by_role("textbox", name="Id").fill("canoe")
    page.get_by_role("button", name="Add it and rank it").press("Enter")
    expect(page.locator("#new-error")).to_have_text("The id canoe is in use; choose another.")
    page.get_by_role("button", name="Take it out again").press("Enter")
    expect(page.locator("#new-result")).to_have_text("Canoe is out of the catalogue again.")
    assert served.ask("GET", "/v1/items/canoe")[0] == 404
    shown(page, expected(served, "kite", "map"))


def test_an_error_is_said_where_it_happens_and_can_be_tried_again(visit: Callable[..., Page], served: Served) -> None:
    page = visit("/#user=ben")
    wanted = expected(served, "kite", "map")
    shown(page, wanted)
    served.kill()
    page.get_by_role("button", name="Remove Kite").click()
    error = page.locator("#list-error")
    expect(error).to_contain_text("The service cannot be reached.")
    assert titles(page) == wanted  # the list of before stays
    page.get_by_role("combobox", name="Add an item").fill("tent")
    expect(page.get_by_role("alert").filter(has_text="cannot be reached")).to_have_count(2)
    accessible(page)
    served.start()
    error.get_by_role("button", name="Try again").click()
    shown(page, expected(served, "map"))
    expect(error).to_be_empty()


def test_a_slow_answer_says_so_and_only_the_latest_one_is_shown(visit: Callable[..., Page], served: Served) -> None:
    page = visit("/#user=ben")
    shown(page, expected(served, "kite", "map"))
    held: list[Route] = []
    page.route("**/v1/recommendations/batch", lambda route: held.append(route) if not held else route.continue_())
    height = page.locator("#list-panel").bounding_box()["height"]
    page.get_by_role("button", name="Remove Kite").click()
    expect(page.locator("#asking")).to_have_text("Asking…")
    expect(page.locator("#columns")).to_have_attribute("aria-busy", "true")
    assert page.locator("#list-panel").bounding_box()["height"] == height
    page.get_by_role("button", name="Discard").click()
    wanted = expected(served, "kite", "map")
    shown(page, wanted)
    held[0].abort()  # the page has given it up long ago
    page.wait_for_timeout(200)
    assert titles(page) == wanted
    expect(page.locator("#asking")).to_be_empty()
    expect(page.locator("#list-error")).to_be_empty()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 320)])
def test_hostile_titles_in_both_themes_and_on_a_phone(visit: Callable[..., Page], served: Served, theme: str, width: int) -> None:
    user, item_id = f"<b onclick=alert(1)>{theme} {'u' * 100}{width}", f'"><i>{width}'
    assert served.ask("POST", "/v1/items", {"items": [{"item_id": item_id, "attributes": {"title": HOSTILE, "brand": HOSTILE}}]})[0] == 200
    events = [{"user_id": user, "item_id": one} for one in (item_id, "tent")]
    assert served.ask("POST", "/v1/events", {"events": events})[1]["accepted"] == 2
    page = visit(theme=theme, width=width)
    page.get_by_role("combobox", name="User").fill(user)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"History of {user}")).to_be_visible()
    assert page.locator("#history .title").first.text_content() == HOSTILE
    page.get_by_role("combobox", name="Add an item").fill("<img")
    expect(page.get_by_role("listbox", name="Add an item")).to_contain_text("<img src=x")
    no_wider_than_the_window(page)
    page.keyboard.press("Enter")
    expect(page.locator("#history li")).to_have_count(3)
    page.get_by_role("button", name=re.compile("^Why")).first.click()
    expect(page.locator(".bars").first).to_be_visible()
    page.get_by_role("button", name="Save as events").click()
    no_wider_than_the_window(page)
    accessible(page)
    page.get_by_role("link", name="Status").click()
    expect(page.locator("#figures")).to_contain_text("Events accepted")
    expect(page.locator("#offline-note")).to_contain_text("None of the models' folders holds an evaluation")
    expect(page.get_by_role("region", name="Latency by kind of request and phase")).to_contain_text("Recommendations")
    no_wider_than_the_window(page)
    accessible(page)
    assert page.title() == "laserrec"
    assert page.locator("img:not(header img)").count() == 0
    background = [int(part) for part in re.findall(r"\d+", page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))]
    assert (sum(background) < 3 * 128) == (theme == "dark")


def test_a_key_is_asked_for_and_kept_for_the_tab(visit: Callable[..., Page], served: Served) -> None:
    """The last test here: from now on this service answers nobody without a key."""
    key, text = make_key("read")
    store = SqlStore.open(served.address)
    store.add_key(key)
    store.close()
    until = time.monotonic() + 10
    while served.ask("GET", "/v1/models")[0] != 401:
        assert time.monotonic() < until
        time.sleep(0.05)
    page = visit("/#user=ben")
    field = page.get_by_label("Key, as laserrec serve keys create showed it")
    expect(field).to_be_focused()
    accessible(page)
    field.fill("lr_wrong_key")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_contain_text("This key is not valid.")
    field.fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="History of ben")).to_be_focused()
    assert json.loads(page.evaluate("JSON.stringify([...Object.values(sessionStorage), localStorage.length, document.cookie])")) == [
        text,
        0,
        "",
    ]
    page.get_by_role("button", name="Remove Kite").click()
    page.get_by_role("button", name="Discard").click()
    page.get_by_role("textbox", name="Title").fill("Canoe")
    page.get_by_role("button", name="Add it and rank it").click()
    expect(page.locator("#new-error")).to_have_text("The key's scope is 'read'; this needs 'write'.")
    page.reload()
    expect(page.get_by_role("heading", name="History of ben")).to_be_visible()
    page.get_by_role("button", name="Forget the key").click()
    expect(field).to_be_visible()
