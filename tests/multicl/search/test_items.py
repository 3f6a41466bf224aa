from __future__ import annotations

from pathlib import Path
from typing import Any

import found
import media
import numpy as np
import pytest
from toys import Vectors

from multicl import Head, Model, Pair
from multicl.search import Index
from multicl.search.approximate import WANTED
from multicl.towers import Towers


@pytest.fixture(scope="module")
def model() -> Model:
    return found.model()


def captioned(pictures: int, captions: int) -> list[dict[str, Any]]:
    """A table with a row for each caption of a picture, the pictures' rows in turn; and a sound that all have."""
    rows = [(media.png(i), f"{media.COLORS[i]} number {n}") for n in range(captions) for i in range(pictures)]
    return [{"image": image, "text": text, "audio": media.wav(0), "n": at} for at, (image, text) in enumerate(rows)]


def test_a_picture_of_several_captions_is_found_once(model: Model, tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    index.add(captioned(pictures=8, captions=5))
    for exact_below in (50_000, 4):
        index.tend(exact_below)
        for k in (1, 3, 8, 20):
            hits = index.search("red", k=k)
            shown = [hit.previews["image"][1] for hit in hits["image"]]
            assert len(set(shown)) == len(shown) == min(k, 8)
            assert [hit.row["row"] for hit in hits["audio"]] == [hits["audio"][0].row["row"]]  # one sound, in 40 rows
            scores = [hit.score for hit in hits["image"]]
            assert scores == sorted(scores, reverse=True)
    whole, some = (index.search("red", k=8, exact=True, where=where)["image"] for where in (None, "n >= 30"))
    assert {hit.row["row"] for hit in whole} == set(range(8))
    assert {hit.row["row"] for hit in some} == set(range(30, 38))
    assert len(index.search(media.png(0), among=["text"], k=40)["text"]) == 40
    assert index.search("red", where="n > 99")["image"] == []


def test_copies_that_are_equally_near_are_no_misses(tmp_path: Path) -> None:
    """Which of a picture's rows an approximate search finds is by chance: for ids it would probe all parts in vain."""
    toys = Model(Towers({"a": Vectors(), "b": Vectors()}, [Pair("a", "b")], Head(dim=4)))
    draw = np.random.default_rng(0)
    things = draw.normal(size=(150, 6)).tolist()
    index = Index(tmp_path / "db", toys)
    index.add([{"a": things[i % 150], "b": draw.normal(size=6).tolist(), "n": i} for i in range(1200)], exact_below=9)
    kept = index.about.approximate["a"]
    assert kept.recall >= WANTED
    assert kept.probes < kept.parts


def test_one_picture_in_files_and_bytes_is_one(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(media.png(0))
    index = Index(tmp_path / "db", model)
    index.add([{"image": str(tmp_path / "a.png"), "n": 0}, {"image": media.png(0), "n": 1}, {"image": media.png(1)}])
    assert [hit.row["row"] for hit in index.search(media.png(0), among=["image"])["image"]] == [0, 2]


def test_a_database_from_before_contents_were_kept_finds_rows(model: Model, tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    index.add(captioned(pictures=2, captions=2))
    index.db.open_table("rows").drop_columns(["_image_content", "_text_content", "_audio_content"])
    again = Index(tmp_path / "db", model)
    assert len(again.search("red")["image"]) == 4
    again.add([{"image": media.png(5), "text": text, "n": 9} for text in ("one", "two")])
    assert len(again.search("red")["image"]) == 5
