import base64
import dataclasses
import functools
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from multicl.report.page import Item, Search, write_page
from multicl.types import InputError

HOSTILE = "</script><img src=x onerror=\"document.title='caught'\"> & 'quotes' {{ 7 * 7 }}"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def scan(i):
    pixels = np.random.default_rng(i).integers(0, 256, (8, 24), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return "image/png", out.getvalue()


@functools.cache  # an Ogg stream has a random serial number
def sound(i):
    wave = 0.5 * np.sin(2 * np.pi * (200 + 3 * i) * np.arange(6400) / 8000)
    out = io.BytesIO()
    soundfile.write(out, wave, 8000, format="OGG", subtype="OPUS")
    return "audio/ogg", out.getvalue()


def things(n, width=16, heard=sound):
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(n, width))
    gap = {"scan": 0.0, "speech": 3.0, "words": -3.0}
    media = {"scan": scan, "speech": heard, "words": lambda i: ("text/plain", f"code {i}".encode())}
    return [
        Item(node, f"{i:03d}", torch.tensor(centres[i] + gap[node]), media[node](i), "test")
        for i in range(n)
        for node in gap
    ]


def page(tmp_path, **change):
    items = change.pop("items", None)
    if items is None:
        items = things(4)
    given = {
        "title": "Spoken codes",
        "intro": "One space.\n\nThree modalities.",
        "table": {"trained": {"speech to scan": 0.905, "scan to speech": 0.89}, "untrained": {"speech to scan": 0.005}},
        "items": items,
        "searches": [Search(items[1], [(items[0], 0.91), (items[3], 0.2)], [True, False])] if len(items) > 3 else [],
        "notes": ["Ties count as misses."],
        "credits": ["Recordings: somebody, CC BY-SA 4.0."],
    }
    return write_page(tmp_path / "new" / "page.html", **{**given, **change})


class Parsed(HTMLParser):
    """Tags with attributes, text by the innermost tag, and what is inside the two scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.stack, self.text, self.scripts = [], [], {}, []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.stack.append(tag)

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop() != tag:
            pass

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "script":
            self.scripts.append(data)
        elif self.stack:
            self.text.setdefault(self.stack[-1], []).append(data.strip())


def read(path):
    parsed = Parsed(path.read_text(encoding="utf-8"))
    return parsed, json.loads(parsed.scripts[0])


def test_structure(tmp_path):
    path = page(tmp_path)
    assert path == tmp_path / "new" / "page.html"
    parsed, data = read(path)
    assert "Spoken codes" in parsed.text["h1"]
    assert {"One space.", "Three modalities.", "Ties count as misses."} <= set(parsed.text["p"])
    assert "Recordings: somebody, CC BY-SA 4.0." in parsed.text["li"]
    assert {"trained", "untrained", "speech to scan"} <= set(parsed.text["th"])
    assert {"90.5", "89.0", "0.5", "–"} <= set(parsed.text["span"])
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {"map", "panel", "searches-cards", "player"} <= set(ids)
    assert [n["name"] for n in data["nodes"]] == ["scan", "speech", "words"]
    assert [n["kind"] for n in data["nodes"]] == ["image", "audio", "text"]
    assert data["things"][2] == {"label": "000", "split": "test", "text": "code 0", "kind": "text", "node": 2}
    assert data["searches"] == [{"query": 1, "found": [[0, 0.91, 1], [3, 0.2, 0]]}]


def test_media_are_stored_once_and_unchanged(tmp_path):
    items = things(3)
    again = dataclasses.replace(items[0], label="the same picture")
    elsewhere = Item("scan", "only found", [0.0] * 16, scan(77))
    path = page(tmp_path, items=[*items, again], searches=[Search(again, [(elsewhere, 0.5)], [False])] * 2)
    _, data = read(path)
    assert len(data["media"]) == 7  # 3 scans, 3 sounds, the one that is only found
    assert len(data["things"]) == 11
    assert len(data["near"]) == 10  # the map has no place for what is only found
    assert data["things"][9]["media"] == data["things"][0]["media"]
    head, content = data["media"][data["things"][0]["media"]].split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == scan(0)[1]


def test_equal_input_gives_equal_bytes(tmp_path):
    first = page(tmp_path / "a").read_bytes()
    assert first == page(tmp_path / "b").read_bytes()


def test_everything_a_user_says_is_escaped(tmp_path):
    items = [
        dataclasses.replace(i, node=HOSTILE + i.node, label=HOSTILE, split=HOSTILE, media=m)
        for i, m in zip(things(1), [scan(0), None, ("text/plain", HOSTILE.encode())], strict=True)
    ]
    clean, _ = read(page(tmp_path, items=things(1)))
    table = {HOSTILE: {HOSTILE: 0.5, "b": 1}, "row": {HOSTILE: 0}}
    path = page(
        tmp_path, items=items, title=HOSTILE, intro=HOSTILE + "\n\n-", notes=[HOSTILE], credits=[HOSTILE], table=table
    )
    parsed, data = read(path)
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in clean.tags]  # no element more, none less
    assert data["things"][0]["label"] == HOSTILE
    assert HOSTILE in parsed.text["title"]
    assert HOSTILE in parsed.text["li"]
    assert "<img" not in path.read_text(encoding="utf-8")


def test_asks_the_network_for_nothing(tmp_path):
    path = page(tmp_path)
    html = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[^\s\"'<)]*", html)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"@import|\bfetch\(|XMLHttpRequest|url\(|WebSocket|import\(", html)
    parsed = Parsed(html)
    assert {attrs[k] for _, attrs in parsed.tags for k in ("src", "href") if k in attrs} == {"data:,"}
    policy = next(a["content"] for _, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")


def test_a_demo_of_600_things_is_small(tmp_path):
    def heavy(i):
        return "audio/ogg", np.random.default_rng(i).bytes(3000)

    items = things(200, width=128, heard=heavy)
    searches = [Search(items[i], [(items[j], 0.1) for j in range(5)], [False] * 5) for i in range(24)]
    assert page(tmp_path, items=items, searches=searches).stat().st_size < 1_500_000


def test_centring_closes_the_gap_and_keeps_the_rest(tmp_path):
    _, data = read(page(tmp_path, items=things(30)))
    plain, centred = (torch.tensor(m["at"]).view(-1, 3, 2) for m in data["maps"])  # [code, node, xy]

    def spread(at):
        """Distance between modalities' middles, in units of the map."""
        return float((at.mean(dim=0)[0] - at.mean(dim=0)[1]).norm())

    assert spread(plain) > 0.5
    assert spread(centred) < 0.02
    for m in data["maps"]:
        at = torch.tensor(m["at"]).view(-1, 2)
        assert at.abs().max() == pytest.approx(1, abs=1e-3)
        assert 0 < m["share"] <= 1
    own = [[j for j, _ in near] for near in data["near"]]
    assert all(i not in near and len(near) == 6 for i, near in enumerate(own))


def test_the_map_is_the_plane_of_most_variance(tmp_path):
    """Points of a plane inside 5-D keep their distances, but for one scale."""
    angle = torch.linspace(0, 6, 20, dtype=torch.float64)
    flat = torch.stack([angle.cos(), angle.sin()], dim=1)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    vectors = flat @ turn[:2]
    _, data = read(page(tmp_path, items=[Item("n", str(i), v) for i, v in enumerate(vectors)]))
    at = torch.tensor(data["maps"][0]["at"], dtype=torch.float64).view(-1, 2)
    ratio = torch.pdist(at) / torch.pdist(flat)
    assert ratio.std() < 1e-3 * ratio.mean()
    assert data["maps"][0]["share"] == pytest.approx(1)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_things(tmp_path, n):
    items = [Item("n", str(i), [1.0]) for i in range(n)]
    _, data = read(page(tmp_path, items=items, searches=[]))
    assert len(data["things"]) == n
    assert len(data["maps"]) == (1 if n else 0)  # one modality has no gap to close


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": {"a": {"b": 90.5}}}, "must be a share in .0, 1., got 90.5"),
        ({"table": {"a": {"b": float("nan")}}}, "got nan"),
        ({"items": [Item("n", "a", [1.0]), Item("n", "b", [1.0, 2.0])]}, r"n 'b' has a vector \[2\], others \[1\]"),
        ({"items": [Item("n", "a", [float("nan")])]}, "n 'a' has a vector with NaN"),
        ({"items": [Item("n", "a", [1.0], ("text/html", b"<b>"))]}, "got text/html, 3 bytes"),
        ({"items": [Item("n", "a", [1.0], ("image/png,x", b"x"))]}, "got image/png,x"),
        ({"items": [Item("n", "a", [1.0], ("audio/ogg", b""))]}, "got audio/ogg, 0 bytes"),
        ({"searches": [Search(Item("n", "a", [1.0]), [], [True])]}, "found 0 but judges 1"),
        ({"searches": [Search(Item("n", "a", [1.0]), [(Item("n", "b", [1.0]), float("nan"))], [True])]}, "'b' nan"),
    ],
)
def test_bad_input_is_named(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        page(tmp_path, **{"searches": [], **change})


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome on the path")
def test_a_browser_opens_it_without_a_complaint(tmp_path):
    items = things(6)
    items[0] = dataclasses.replace(items[0], label=HOSTILE, split=HOSTILE)
    path = page(tmp_path, items=items, searches=[Search(items[i], [(items[0], 0.5)], [i == 0]) for i in range(3)])
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *flags, path.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    parsed = Parsed(done.stdout)
    classes = [attrs.get("class", "") for _, attrs in parsed.tags]
    assert classes.count("card") == 3
    assert "Spoken codes" in parsed.text["title"]  # no handler of the hostile label ran
    assert "In 1 of these 3 the first thing found is right." in parsed.text["p"]
    assert classes.count("sound") > 1  # one in its card, more in the panel
