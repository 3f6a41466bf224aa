"""A page in the browser to search a database: type, drop a picture or record a sound; see and hear what is found."""

from __future__ import annotations

import io
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from multicl.report.media import MEDIA, shown
from multicl.search.index import Hit, Index
from multicl.types import InputError

LONGEST, LARGEST, MOST = 1000, "20mb", 50
"""Limits: characters of a text, size of a file, rows of an answer."""
FIRST_PORT, PORTS = 7860, 100
CSS = """
.found { display: grid; grid-template-columns: repeat(auto-fill, minmax(160px, 1fr)); gap: 12px; }
.found article { border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 10px; overflow: hidden; }
.found img { display: block; max-width: 100%; min-width: 64px; margin: 0 0 6px; image-rendering: pixelated; }
.found audio { display: block; width: 100%; height: 36px; margin: 0 0 6px; }
.found p, .found small { display: block; margin: 0 0 4px; overflow-wrap: anywhere; }
.found small { color: var(--body-text-color-subdued); }
"""


def serve(db: str, *, model: str | None = None, host: str = "127.0.0.1", port: int | None = None) -> None:
    """Serve the search page until Ctrl-C.

    Args:
        model: where the model is now, if it has moved. host: the address to listen at; by default, one that only this
            machine reaches. port: default: the first free one from 7860 on.

    Raises:
        InputError: as `Index`; Gradio is not installed; the address or port cannot be used.
    """
    _gradio()
    index = Index(db, model)
    if not len(index):
        raise InputError(f"{db} holds no rows yet: fill it with multicl index")
    page = build(index)
    options = launch_options(host, port)
    print(f"serving {db}, {len(index)} rows, at http://{host}:{options['server_port']} (Ctrl-C ends it)", flush=True)
    try:
        page.launch(**options)
    except OSError as error:
        raise InputError(f"cannot listen at {host}:{options['server_port']}: {error}") from error


def launch_options(host: str, port: int | None) -> dict[str, Any]:
    """Options to launch Gradio: no tunnel, a limit on file size, and nothing served from this machine's disk."""
    return {
        "server_name": host,
        "server_port": _free(host, port),
        "share": False,
        "quiet": True,
        "max_file_size": LARGEST,
        "footer_links": [],
        "css": CSS,
        "ssr_mode": False,
    }


def build(index: Index) -> Any:
    """The page, a `gradio.Blocks`: an input for each kind of thing that some node of the model can read."""
    gr = _gradio()
    reads = {kind for kind, sample in _samples().items() if _readable(index, sample)}

    def find(query: Any, among: str, where: str | None, k: float, paths: bool) -> str:
        try:
            return str(answer(index, query, among, where or "", round(k), paths))
        except InputError as error:
            raise gr.Error(str(escape(str(error))), print_exception=False) from error

    def typed(text: str | None, among: str, where: str | None, k: float) -> str:
        return find(text[:LONGEST], among, where, k, paths=False) if text and text.strip() else ""

    def given(path: str | None, among: str, where: str | None, k: float) -> str:
        return find(path, among, where, k, paths=True) if path else ""

    with gr.Blocks(title="multicl search", analytics_enabled=False) as page:
        gr.Markdown(f"# Search\n{len(index):,} rows, by {', '.join(index.nodes)}.")
        with gr.Row(equal_height=True):
            inputs = _inputs(gr, reads)
        with gr.Accordion("More", open=False), gr.Row():
            among = gr.Dropdown(["all", *index.nodes], value="all", label="Search among")
            where = gr.Textbox(label="Condition (SQL)", placeholder="label = 3", max_length=LONGEST)
            rows = gr.Slider(1, MOST, value=12, step=1, label="Rows")
        results = gr.HTML(elem_id="shown")
        more = [among, where, rows]
        options = {"outputs": results, "api_visibility": "private", "concurrency_limit": 1}
        for kind, box in inputs.items():
            if kind == "text":
                gr.on([box.submit], typed, [box, *more], **options)
            elif kind == "sound":
                gr.on([box.upload, box.stop_recording], given, [box, *more], **options)
            else:
                box.upload(given, [box, *more], **options)
    return page


def _inputs(gr: Any, reads: Collection[str]) -> dict[str, Any]:
    """Kind of query -> Gradio's input, placed when it is created; "file" for a model that reads no known kind."""
    inputs = {}
    if "text" in reads or not reads:
        inputs["text"] = gr.Textbox(
            label="Words", placeholder="type, then Enter", max_length=LONGEST, submit_btn="Search"
        )
    if "picture" in reads:
        inputs["picture"] = gr.Image(
            label="A picture", type="filepath", height=180, sources=["upload", "clipboard"], buttons=[]
        )
        inputs["picture"].preprocess = _path  # Gradio's own drops transparency, and fails on a broken file
    if "sound" in reads:
        inputs["sound"] = gr.Audio(
            label="A sound", type="filepath", sources=["microphone", "upload"], format=None, buttons=[]
        )
    if not reads:
        inputs["file"] = gr.File(label="A file", type="filepath")
    return inputs


def _path(given: Any) -> str | None:
    """The path of the file that a browser sent, unchanged."""
    return given.path if given is not None else None


def answer(index: Index, query: Any, among: str, where: str, k: int, paths: bool) -> Markup:
    """What a query finds, as HTML in which all content is escaped; errors as `Index.search`."""
    nodes = None if among == "all" else [among]
    found = index.search(query, among=nodes, where=where.strip() or None, k=min(max(k, 1), MOST), paths=paths)
    return Markup("").join(_found(target, hits) for target, hits in found.items())


def _found(target: str, hits: Sequence[Hit]) -> Markup:
    cards = Markup("").join(_card(hit) for hit in hits)
    return Markup('<h3>Nearest by {}</h3><div class="found">{}</div>').format(target, cards or "Nothing.")


def _card(hit: Hit) -> Markup:
    media = Markup("").join(_medium(*hit.previews[node]) for node in hit.previews)
    texts = {content.decode("utf-8", "replace") for mime, content in hit.previews.values() if mime.startswith("text/")}
    plain = {n: c for n, c in hit.row.items() if n not in ("id", "row") and c is not None and str(c) not in texts}
    note = " · ".join([f"{hit.score:.3f}", f"row {hit.row['row']}", *(f"{n} {str(c)[:80]}" for n, c in plain.items())])
    return Markup("<article>{}<small>{}</small></article>").format(media, note)


def _medium(mime: str, content: bytes) -> Markup:
    if mime.startswith("text/"):
        return Markup("<p>{}</p>").format(content.decode("utf-8", "replace"))
    if not MEDIA.fullmatch(mime):
        return Markup("")
    source = shown((mime, content))
    if mime.lower().startswith("image/"):
        return Markup('<img src="{}" alt="">').format(source)
    return Markup('<audio controls preload="none" src="{}"></audio>').format(source)


def _samples() -> Mapping[str, Any]:
    """A small sample of each kind of query that the page has an input for."""
    import soundfile
    from PIL import Image

    picture, sound = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (32, 32)).save(picture, "PNG")
    soundfile.write(sound, np.zeros(16000, np.float32), 16000, format="WAV")
    return {"text": "words", "picture": picture.getvalue(), "sound": sound.getvalue()}


def _readable(index: Index, sample: Any) -> bool:
    try:
        index.asked_as(sample, paths=False)
    except InputError:
        return False
    return True


def _free(host: str, port: int | None) -> int:
    if port is not None and not 0 < port < 2**16:  # a larger number would wrap around to another port
        raise InputError(f"--port must be 1 to 65535, got {port}")
    for tried in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else [port]:
        try:
            family, *_, address = socket.getaddrinfo(host, tried, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                taken.bind(address)
        except (OSError, OverflowError) as error:
            reason = error
            continue
        return tried
    raise InputError(f"cannot listen at {host}, port {port or f'{FIRST_PORT} and on'}: {reason}")


def _gradio() -> Any:
    try:
        import gradio
    except ImportError:
        raise InputError("the search page needs Gradio: pip install 'multicl[search]'") from None
    return gradio
