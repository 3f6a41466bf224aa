"""The page of a run, opened in a real browser: drawn, pointed at, narrow and wide, by day and by night."""

from __future__ import annotations

import builtins
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from media import png, rows, wav, write
from sklearn.metrics.pairwise import cosine_distances
from sklearn.neighbors import NearestNeighbors

from multicl.report.charts import confusion, cosines, curves
from multicl.report.gallery import Section
from multicl.report.items import Item, Search
from multicl.report.media import thumbnail, within
from multicl.report.plane import maps_of
from multicl.report.run_page import Contents, Headline, write_run_page
from multicl.types import InputError

pytest.importorskip("plotly")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><img src=x onerror=\"document.title='caught'\"> & {{ 7 * 7 }}"
DRAWN = """() => {
  const map = document.getElementById("map");
  const pixels = map.getContext("2d").getImageData(0, 0, map.width, map.height).data;
  let n = 0;
  for (let i = 3; i < pixels.length; i += 4) n += pixels[i] > 0;
  return n;
}"""
UNDER_THE_POINTER = "[...document.querySelectorAll('#panel .big *')].map(e => e.tagName + '.' + e.className)"


def contents(count: int = 9) -> Contents:
    z = torch.nn.functional.normalize(torch.randn(3 * count, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    items = []
    for i in range(count):
        items += [
            Item("image", f"thing {i}", z[i], ("image/png", png(i)), credit="Somebody, CC BY 4.0"),
            Item("audio", f"thing {i}", z[count + i], ("audio/wav", wav(i))),
            Item("text", f"thing {i}", z[2 * count + i], ("text/plain", f"thing {i}".encode())),
        ]
    items[2] = Item("text", HOSTILE, z[0], ("text/plain", HOSTILE.encode()), HOSTILE, HOSTILE)
    searches = [Search(items[3 * i + 2], [(items[0], 0.9), (items[3], 0.4)], [i == 0, i == 1]) for i in range(4)]
    metrics = [{"step": s, "loss": 5 / s, "a-b/accuracy": s / 20, "lr": 0.1, "rows_per_second": 9.0} for s in (1, 5, 9)]
    space = [
        cosines(HOSTILE, torch.rand(99), torch.rand(99) - 0.5),
        confusion(["a", HOSTILE, "b"] * 5, ["a", "b", "b"] * 5),
    ]
    return Contents(
        title="clip: image, text", intro=[HOSTILE], headlines=[Headline("recall@1", 0.2, (0.15, 0.25), 0.01, 0.05),
        Headline("uniformity", -2.5, (-2.6, -2.4))], items=items, searches=searches, failures=searches[1:],
        charts={"space": space, "training": curves(metrics)},
        views=[Section("image", ["as it is", "weak 0"], [("0", [("image/png", png(0)), ("image/png", png(1))])])],
        notes=[HOSTILE], recipe=HOSTILE, environment={"torch": HOSTILE}, credits=[HOSTILE],
    )  # fmt: skip


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run_page(tmp_path_factory.mktemp("page") / "new" / "report.html", contents())


def test_it_is_small_and_asks_for_nothing(page_file: Path) -> None:
    html = page_file.read_text(encoding="utf-8")
    assert len(html) < 2_600_000
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy
    assert policy[1].startswith("default-src 'none'")
    assert "unsafe-eval" not in policy[1]
    assert "<img src=x" not in html
    assert "{{" not in html.replace("{{ 7 * 7 }}", "")


def test_without_plotly_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'multicl\[report\]'"):
        write_run_page(tmp_path / "r.html", Contents(title="x"))


def test_charts_hold_what_was_measured() -> None:
    heat = confusion(["a", "a", "b"], ["a", "b", "b"])
    assert heat.traces[0]["z"] == [[0.5, 0.5], [0, 1]]
    assert "1 of 3 wrong" in heat.note
    both = cosines("x", torch.tensor([0.999, 0.999]), torch.tensor([-0.999, 0.001]), bins=2)
    assert [t["y"] for t in both.traces] == [[0, 1], [0.5, 0.5]]
    lines = {c.title: c for c in curves([{"step": 1, "loss": 2.0, "eval/knn": 0.5}, {"step": 2, "loss": None}])}
    assert lines.keys() == {"Loss", "Figures on held-out rows"}
    assert (lines["Loss"].traces[0]["x"], lines["Loss"].traces[0]["y"]) == ([1], [2.0])


def test_media_fit_their_room() -> None:
    big = ("image/png", png(0, size=200))
    mime, content = thumbnail(*big, most=1500)
    assert mime == "image/webp"
    assert len(content) <= 1500 < len(big[1])
    assert thumbnail("audio/wav", b"x" * 99, most=3) == ("audio/wav", b"x" * 99)
    media = [("image/png", b"123"), ("image/png", b"123"), ("audio/wav", b"12345"), ("text/plain", b"long text")]
    assert within(list(media), 8) == [media[0], media[1], None, media[3]]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium or Chrome on the path")
    with sync.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def drawn_charts(page: Any, path: Path) -> list[str]:
    """Opens a file and waits for its charts; what the console says, now and later."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-charts=drawn]", state="attached", timeout=60_000)
    return said


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_draws_it_without_a_complaint(browser: Any, page_file: Path, width: int, dark: bool) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light")
    said = drawn_charts(page, page_file)
    assert page.title() == "clip: image, text"  # no handler of a hostile text ran
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("[data-chart] .main-svg").count() >= 6
    drawn = page.evaluate(DRAWN)
    assert drawn > 500
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    at = json.loads(page.locator("#data").text_content())["maps"][0]["at"]
    most = [max(abs(v) for v in at[axis::2]) for axis in (0, 1)]
    scale = min((box["width"] / 2 - 34) / most[0], (box["height"] / 2 - 34) / most[1])
    shown = set()
    for x, y in zip(at[::2], at[1::2], strict=True):  # point at every thing
        page.mouse.move(box["x"] + box["width"] / 2 + scale * x, box["y"] + box["height"] / 2 - scale * y)
        shown |= set(page.evaluate(UNDER_THE_POINTER))
    assert {"IMG.", "BUTTON.sound", "SPAN.words"} <= shown
    assert page.locator("audio").count() >= 1
    assert page.locator("#searches-cards .card").count() == 4
    assert page.locator("#failures-cards .card").count() == 3
    assert page.locator(".card .right").count() >= 1
    assert said == []
    page.close()


def test_a_browser_draws_one_of_sounds_with_classes(browser: Any, tmp_path: Path) -> None:
    z = torch.nn.functional.normalize(torch.randn(9, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    items = [Item("audio", f"thing {i}", z[i], ("audio/wav", wav(i)), group="abc"[i % 3]) for i in range(9)]
    searches = [Search(items[i], [(items[i + 3], 0.9), (items[i + 1], 0.4)], [True, False]) for i in range(3)]
    page_file = write_run_page(
        tmp_path / "report.html", replace(contents(), items=items, searches=searches, failures=[])
    )
    page = browser.new_page()
    said = drawn_charts(page, page_file)
    assert said == []
    assert page.locator("#legend button").count() == 3
    assert page.locator("#searches-cards .card").count() == 3
    assert page.evaluate(DRAWN) > 100
    page.close()


def test_the_command_makes_one_of_a_run(browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from multicl import cli
    from multicl.launcher import launch
    from multicl.recipes.clip import Recipe

    table = [{**row, "license": "CC0"} for row in rows(40)]
    for part in ("train", "test"):
        write(tmp_path / "data" / f"{part}.parquet", table)
    small = ["--image.size", "16", "--text.width", "16", "--head.dim", "16", "--train.batch-size", "16"]
    launch(
        Recipe,
        ["--run", str(tmp_path / "run"), "--data.path", str(tmp_path / "data"), "--train.steps", "3", *small],
    )
    capsys.readouterr()
    cli.main(["report", str(tmp_path / "run"), "--points", "30"])
    path = tmp_path / "run" / "report.html"
    assert str(path) in capsys.readouterr().out
    html = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    data = json.loads(found[1])
    assert len(data["near"]) == 30
    assert {t["credit"] for t in data["things"]} == {"CC0"}
    assert {c["title"] for c in data["charts"]["space"]} == {"image and text", "Confusion between classes"}
    assert {c["title"] for c in data["charts"]["training"]} >= {"Loss", "Temperature", "Learning rate"}
    assert "15 of 40 rows" in html
    assert html.count('class="headline"') == 11
    page = browser.new_page()
    said = drawn_charts(page, path)
    assert said == []
    page.close()


def test_neighbourhoods_are_drawn_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("umap")
    items = [Item("image", "a", z) for z in torch.randn(40, 4, generator=torch.Generator().manual_seed(0))]
    one, other = (maps_of(items, umap=True)[-1] for _ in range(2))
    assert one == other
    assert (one["name"], one["share"], len(one["at"])) == ("neighbourhoods (UMAP)", None, 80)
    assert one["name"] in write_run_page(tmp_path / "r.html", contents(11)).read_text(encoding="utf-8")


def test_umap_is_given_the_neighbours_that_it_would_find(monkeypatch: pytest.MonkeyPatch) -> None:
    umap, given = pytest.importorskip("umap"), {}

    class Given:
        def __init__(self, **settings: Any) -> None:
            given.update(settings)

        def fit_transform(self, x: Any) -> Any:
            return x[:, :2]

    monkeypatch.setattr(umap, "UMAP", Given)
    z = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    z[7] = z[3]
    maps_of([Item("image", "a", v) for v in z], umap=True)
    near, apart = given["precomputed_knn"]
    wanted, _ = NearestNeighbors(n_neighbors=15, metric="cosine").fit(z).kneighbors(z)
    assert (apart[:, 0] == 0).all()  # its own place: a rounding apart would count as the nearest neighbour
    np.testing.assert_allclose(apart, wanted, atol=1e-6)
    np.testing.assert_allclose(cosine_distances(z)[np.arange(40)[:, None], near], wanted, atol=1e-6)
