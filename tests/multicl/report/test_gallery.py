import base64
import io
from html.parser import HTMLParser

import pytest
from PIL import Image

from multicl.report.gallery import Section, write_gallery
from multicl.types import InputError

HOSTILE = "</td><script>document.title='caught'</script> & 'quotes' {{ 7 * 7 }}"


def png(grey):
    out = io.BytesIO()
    Image.new("L", (4, 3), grey).save(out, "PNG")
    return "image/png", out.getvalue()


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_a_row_a_thing_and_a_column_a_view(tmp_path):
    pictures = Section("image", ["as it is", "strong 0"], [("7", [png(0), png(9)]), ("8", [png(1), png(2)])])
    sounds = Section("audio", ["as it is"], [("7", [("audio/ogg", b"OggS")])])
    words = Section("text", ["as it is"], [("7", [("text/plain; charset=utf-8", "grün".encode())])], note="No views.")
    path = write_gallery(
        tmp_path / "new" / "v.html", title="Views", intro="A.\n\nB.", sections=[pictures, sounds, words]
    )
    page = path.read_text(encoding="utf-8")
    found = tags(page)
    shown = [attrs["src"].partition(",")[2] for tag, attrs in found if tag == "img"]
    assert [base64.b64decode(data) for data in shown] == [png(n)[1] for n in (0, 9, 1, 2)]
    assert [attrs["src"] for tag, attrs in found if tag == "audio"] == ["data:audio/ogg;base64,T2dnUw=="]
    assert "grün" in page
    assert "No views." in page
    assert page.count("<h2>") == 3
    again = write_gallery(tmp_path / "b.html", title="Views", intro="A.\n\nB.", sections=[pictures, sounds, words])
    assert again.read_bytes() == path.read_bytes()


def test_it_asks_for_nothing_and_runs_nothing(tmp_path):
    hostile = Section(HOSTILE, [HOSTILE], [(HOSTILE, [("text/plain", HOSTILE.encode())])], note=HOSTILE)
    page = write_gallery(tmp_path / "v.html", title=HOSTILE, intro=HOSTILE, sections=[hostile]).read_text()
    found = tags(page)
    assert "script" not in [tag for tag, _ in found]
    assert "49" not in page
    policy = next(a["content"] for t, a in found if t == "meta" and a.get("http-equiv"))
    assert policy.startswith("default-src 'none';")
    assert not any(str(a.get(k, "data:")).startswith("http") for _, a in found for k in ("src", "href"))


@pytest.mark.parametrize("medium", [("video/mp4", b"x"), ("image/png", b""), ('image/png"', b"x")])
def test_what_a_page_cannot_show_is_refused(tmp_path, medium):
    with pytest.raises(InputError, match="a page shows"):
        write_gallery(tmp_path / "v.html", title="", intro="", sections=[Section("a", ["x"], [("0", [medium])])])
