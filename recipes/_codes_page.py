"""What the demo shows: its figures as a table, a page, and searches with a recording or drawing of the user's own."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image as Picture
from PIL import ImageOps, UnidentifiedImageError

import multicl
from multicl import InputError, Model
from multicl.figures import to_json
from multicl.launcher import R, fail, parse
from multicl.modalities.audio import Audio
from multicl.recipes import _spoken_codes as codes
from multicl.report.page import Item, Search, write_page

COMPOSITION = f"""Spoken codes. A code is three digits: three handwritten scans side by side, three recordings of one
speaker joined, three words. 800 codes train the model, 200 others are searched, made of scans and recordings never
trained on. One speaker ({codes.UNSEEN_SPEAKER}) is left out altogether. Images and sounds are never paired: words join
them."""
MAIN = ("speech_to_image", "image_to_speech", "text_to_image", "text_to_speech")
UNSEEN = {
    "speech_to_image": "unseen_speaker_to_image",
    "image_to_speech": "image_to_unseen_speaker",
    "text_to_speech": "text_to_unseen_speaker",
}
ON_THE_MAP = 200


def finish(recipe: Any, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write the page and print the table; returns the content of the line RESULT."""
    began = time.perf_counter()
    folder: Path = recipe.run
    table = {
        "trained": {name: result[name] for name in MAIN},
        f"a speaker never heard ({codes.UNSEEN_SPEAKER})": {
            name: result[measured] for name, measured in UNSEEN.items()
        },
        "untrained": {name: result["untrained"][name] for name in MAIN},
    }
    model = multicl.load(folder)
    path = write_report(model, folder / "demo.html", table)
    print(f"\nrecall@1 over {codes.HELD_OUT} unseen codes, chance {1 / codes.HELD_OUT:.1%}")
    print(" " * 32 + "".join(f"{name.replace('_', ' '):>18}" for name in MAIN))
    for row, cells in table.items():
        print(f"{row:<32}" + "".join(f"{cells[n]:>18.1%}" if n in cells else f"{'-':>18}" for n in MAIN))
    if recipe.say or recipe.draw:
        search(model, recipe.say, recipe.draw)
    print(f"\nopen {path.resolve()}\nsearch with your own: multicl demo --say my.wav   multicl demo --draw my.png")
    first, unseen, untrained = table.values()
    seconds = round(result["seconds"] + time.perf_counter() - began, 1)
    return {**first, "untrained": untrained, "unseen_speaker": unseen, "codes": codes.HELD_OUT, "seconds": seconds}


def search_with_own(recipe: type[R], args: Sequence[str]) -> bool:
    """Search with a demo that is already trained, that of --run or the last one; returns False if there is none."""
    try:
        settings: Any = parse(recipe, args, "multicl demo")
        trained = [settings.run] if settings.run else sorted(Path("runs").glob("codes-*"), reverse=True)
        trained = [run for run in trained if (run / "model" / "config.json").is_file()]
        for path in (settings.say, settings.draw):
            if path is not None and not path.is_file():
                raise InputError(f"no such file: {path}")
        if not trained:
            return False
        print(f"searching with {trained[0]}")
        found = search(multicl.load(trained[0]), settings.say, settings.draw)
    except InputError as error:
        fail(error)
    print("RESULT " + to_json({"run": str(trained[0]), **found}))
    return True


def search(model: Model, say: Path | None, draw: Path | None, k: int = 5) -> dict[str, list[str]]:
    """Print the codes nearest to a recording or drawing, among the words of all 1,000 codes; returns them."""
    every = [f"{i:03d}" for i in range(1000)]
    words = model.embed(text=[codes.say(code) for code in every])
    found = {}
    for name, path, node in (("say", say, "audio"), ("draw", draw, "image")):
        if path is None:
            continue
        cell = spoken(path) if node == "audio" else drawn(path)
        scores = (model.embed_node(node, [cell]) @ words.T)[0]
        best = scores.topk(k)
        found[name] = [every[int(i)] for i in best.indices]
        print(f"\n{path} is nearest to:")
        for i, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            print(f"  {every[i]}  {codes.say(every[i]):<18} cosine {score:.3f}")
    return found


def spoken(path: Path) -> dict[str, Any]:
    """A user's recording without the silence around it.

    Raises:
        InputError: it cannot be read, or it is silent.
    """
    wave = np.asarray(Audio(rate=codes.RATE).load(str(path), None), np.float32)
    frame = codes.RATE // 100
    loudness = np.sqrt(np.square(wave[: len(wave) // frame * frame].reshape(-1, frame)).mean(1))
    loud = np.flatnonzero(loudness > 0.05 * loudness.max(initial=0.0)) if len(loudness) else np.zeros(0, int)
    if not len(loud):
        raise InputError(f"{path} is silent")
    return {"array": wave[loud[0] * frame : (loud[-1] + 3) * frame], "sampling_rate": codes.RATE}


def drawn(path: Path) -> codes.Array:
    """A user's picture of three digits in the form of the scans: [8, 24], light ink on black, filling the height.

    Raises:
        InputError: it cannot be read, or it is blank.
    """
    try:
        picture = ImageOps.exif_transpose(Picture.open(path)).convert("RGBA")
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} is not a picture that can be read: {error}") from None
    paper = Picture.new("RGBA", picture.size, "white")
    gray = ImageOps.autocontrast(Picture.alpha_composite(paper, picture).convert("L"))
    if np.median(np.asarray(gray)) > 127:  # dark ink on light paper
        gray = ImageOps.invert(gray)
    box = gray.point(lambda v: 255 * (v > 96)).getbbox()
    if box is None or np.ptp(np.asarray(gray)) == 0:
        raise InputError(f"{path} is blank: draw three digits side by side")
    cells = ImageOps.autocontrast(gray.crop(box).resize((24, 8), Picture.Resampling.BOX))
    return np.asarray(cells)


def write_report(model: Model, path: Path, table: Mapping[str, Mapping[str, float]]) -> Path:
    """Write a page with the space, its scans and sounds, and what spoken codes find."""
    seen = codes.held_out(codes.training_speakers())
    unseen = codes.held_out([codes.UNSEEN_SPEAKER])
    scans = _items(model, "image", "handwriting", seen, "held out")
    speech = _items(model, "audio", "speech", seen, "held out")
    strangers = _items(model, "audio", "speech", unseen, f"{codes.UNSEEN_SPEAKER}, never heard")
    words = _items(model, "text", "words", seen, "held out")
    heard = [_search(query, scans) for query in speech]
    misses = [search for search in heard if not search.right[0]]
    searches = [*heard[:6], *misses[:4], *(_search(query, scans) for query in strangers[6:10])]
    searches += [_search(query, speech) for query in scans[10:14]] + [_search(query, scans) for query in words[14:18]]
    return write_page(
        path,
        title="Speech, handwriting and words in one space",
        intro=COMPOSITION,
        table={row: {name.replace("_", " "): v for name, v in cells.items()} for row, cells in table.items()},
        items=[*scans[:ON_THE_MAP], *speech[:ON_THE_MAP], *words[:ON_THE_MAP]],
        searches=searches,
        notes=[
            f"Recall@1: how often the first of {codes.HELD_OUT} things found is of the same code; chance is "
            f"{1 / codes.HELD_OUT:.1%}.",
            "The searches shown are the first few of each direction, and four misses of speech to handwriting.",
            "Codes are composed: no 8 x 8 scan and no recording of the held-out codes was used in training.",
        ],
        credits=codes.CREDITS,
    )


def _items(model: Model, node: str, name: str, columns: Mapping[str, list[Any]], split: str) -> list[Item]:
    vectors = model.embed_node(node, columns[node])
    media = [_media(node, cell) for cell in columns[node]]
    return [Item(name, c, z, m, split) for c, z, m in zip(columns["code"], vectors, media, strict=True)]


def _media(node: str, cell: Any) -> tuple[str, bytes]:
    buffer = io.BytesIO()
    if node == "text":
        return "text/plain", str(cell).encode()
    if node == "image":
        Picture.fromarray(cell).save(buffer, "PNG", optimize=True)
        return "image/png", buffer.getvalue()
    soundfile.write(buffer, cell["array"], cell["sampling_rate"], format="OGG", subtype="OPUS")
    return "audio/ogg", buffer.getvalue()


def _search(query: Item, among: Sequence[Item], k: int = 5) -> Search:
    scores = [float(np.dot(np.asarray(query.vector), np.asarray(item.vector))) for item in among]
    best = sorted(range(len(among)), key=lambda i: -scores[i])[:k]
    return Search(query, [(among[i], scores[i]) for i in best], [among[i].label == query.label for i in best])
