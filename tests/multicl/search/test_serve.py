from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import found
import httpx
import media
import pytest
import soundfile
from PIL import Image as Picture

from multicl.search import Index
from multicl.search.serve import answer, launch_options, serve
from multicl.types import InputError

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
HOSTILE = "<img src=x onerror=\"document.title='caught'\"> ${1+1} {{ 7 }}"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    data = media.rows(16)
    data[0]["text"] = data[0]["negative"] = HOSTILE
    there = Index(tmp_path_factory.mktemp("db") / "db", found.model())
    there.add(data)
    return there


def test_what_is_found_is_escaped(index: Index) -> None:
    html = answer(index, "red thing", "image", "row = 0", 3, paths=False)
    assert "&lt;img src=x onerror" in html
    assert "<img src=x" not in html
    assert html.count('<img src="data:image/png;base64,') == html.count("<audio ") == html.count("<article>") == 1


def test_what_strangers_type_is_no_path(index: Index, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(media.png(1))
    assert "Nearest by image" in answer(index, str(picture), "all", "", 2, paths=False)  # words, as any other
    assert "Nearest by text" in answer(index, str(picture), "all", "", 2, paths=True)
    assert answer(index, "x", "image", "", 10**6, paths=False).count("<article>") == 16


def test_only_this_machine_is_let_in_unless_told_otherwise() -> None:
    options = launch_options("127.0.0.1", None)
    assert (options["server_name"], options["share"], options["max_file_size"]) == ("127.0.0.1", False, "20mb")
    with pytest.raises(InputError, match=r"cannot listen at 203\.0\.113\.1, port 99"):
        launch_options("203.0.113.1", 99)
    for port in (99999, 0, -1):
        with pytest.raises(InputError, match=f"--port must be 1 to 65535, got {port}"):
            launch_options("127.0.0.1", port)


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such search database"):
        serve(str(tmp_path / "none"))
    for name, message in (("lancedb", "pip install 'multicl"), ("gradio", "the search page needs Gradio: pip install")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=message):
            serve(str(tmp_path / "none")) if name == "gradio" else Index(tmp_path / "none")


@pytest.fixture(scope="module")
def url(index: Index) -> Iterator[str]:
    """The command in a process of its own: Gradio's server leaves event loops behind."""
    with socket.socket() as free:  # by chance: the next one that is free would be another worker's, too
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = Path(index.where).parent / "run"
    found.saved(run)
    command = [sys.executable, "-W", "ignore", "-m", "multicl.cli", "serve", index.where, "--model", str(run)]
    server = subprocess.Popen(
        [*command, "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert server.stdout
    assert f"16 rows, at http://127.0.0.1:{port} " in server.stdout.readline()
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.communicate(timeout=20)


def asked(url: str, label: str, name: str, content: bytes) -> tuple[bool, str]:
    """What the page answers to a file in the input of a label, and whether it is an answer or an error."""
    server = f"{url}/gradio_api"
    config = httpx.get(f"{url}/config").json()
    component = next(c["id"] for c in config["components"] if c["props"].get("label") == label)
    event = next(d["id"] for d in config["dependencies"] if d["inputs"][0] == component)
    (path,) = httpx.post(f"{server}/upload", files={"files": (name, content)}).json()
    file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    call = {"data": [file, "text", "", 3], "fn_index": event, "session_hash": name}
    httpx.post(f"{server}/queue/join", json=call).raise_for_status()
    with httpx.stream("GET", f"{server}/queue/data", params={"session_hash": name}, timeout=60) as stream:
        events = (json.loads(line.removeprefix("data:")) for line in stream.iter_lines() if line.startswith("data:"))
        done = next(event for event in events if event["msg"] == "process_completed")
    output = done["output"]
    return done["success"], output["data"][0] if done["success"] else output["error"]


def test_files_are_read_as_they_are(url: str, index: Index, tmp_path: Path) -> None:
    drawn = Picture.fromarray(media.pixels(1)).convert("RGBA")
    drawn.putalpha(Picture.linear_gradient("L").resize(drawn.size))  # the rest is on white
    drawn.save(tmp_path / "a.png")
    soundfile.write(tmp_path / "a.mp3", media.wave(2, seconds=1), media.RATE, format="MP3")
    for label, name in (("A picture", "a.png"), ("A sound", "a.mp3")):
        path = tmp_path / name
        assert asked(url, label, name, path.read_bytes()) == (True, answer(index, str(path), "text", "", 3, paths=True))


@pytest.mark.parametrize("content", [b"", b"of no kind"])
@pytest.mark.parametrize(("label", "name"), [("A picture", "a.png"), ("A sound", "a.wav"), ("A sound", "a.mp3")])
def test_a_broken_file_is_told(label: str, name: str, content: bytes, url: str) -> None:
    success, said = asked(url, label, name, content)
    assert (success, said.partition(" can read ")[0]) == (False, "no node of the model")


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium")
def test_in_a_browser(url: str, tmp_path: Path) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    picture = tmp_path / "a.png"
    picture.write_bytes(media.png(1, size=64))
    errors: list[Any] = []
    with sync.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.on("pageerror", lambda error: errors.append(error))
        tab.set_default_timeout(15_000)
        tab.goto(url)
        tab.get_by_label("Words").fill("a red thing")
        tab.get_by_label("Words").press("Enter")
        tab.wait_for_selector("#shown article img")
        tab.screenshot(path=str(tmp_path / "words.png"))
        assert tab.locator("#shown article").count() == 24  # twelve by pictures, twelve by sounds
        assert tab.locator("#shown audio").count() == 24
        drawn = "all => all.every(i => i.complete && i.naturalWidth > 0)"
        assert tab.locator("#shown img").evaluate_all(drawn)
        tab.locator("#shown").get_by_text("onerror").first.wait_for()
        assert tab.title() == "multicl search"
        tab.locator("input[type=file][accept*=image]").set_input_files(str(picture))
        tab.get_by_text("Nearest by text").wait_for()
        tab.get_by_role("button", name="Record", exact=True).click()  # what Chromium's false microphone hears
        tab.wait_for_timeout(1200)
        tab.get_by_role("button", name="Stop", exact=True).first.click()
        tab.get_by_text("Nearest by image").wait_for()
        tab.screenshot(path=str(tmp_path / "sound.png"), full_page=True)
        tab.get_by_text("More").click()
        tab.get_by_label("Condition").fill("nope = 1")
        tab.get_by_label("Words").press("Enter")
        tab.get_by_text("cannot be used").first.wait_for()
        browser.close()
    assert errors == []
