import io
import threading
import warnings

import pytest
from PIL import Image as Pil

from multicl.modalities.image import decode


def test_threads_that_decode_are_quiet_and_others_are_not(monkeypatch):
    out = io.BytesIO()
    Pil.new("RGB", (8, 8)).save(out, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0")
    with pytest.raises(UserWarning, match="EXIF"):  # what Pillow says of it, which is an error in these tests
        Pil.open(io.BytesIO(out.getvalue())).getexif()
    opened, inside, leave = Pil.open, [threading.Event() for _ in "ab"], [threading.Event() for _ in "ab"]

    def waits(file):
        at = int(threading.current_thread().name)
        inside[at].set()
        assert leave[at].wait(30)
        return opened(file)

    monkeypatch.setattr(Pil, "open", waits)
    found = []
    threads = [
        threading.Thread(name=str(at), target=lambda: found.append(decode.read(out.getvalue()).size)) for at in range(2)
    ]
    for at, thread in enumerate(threads):
        thread.start()
        assert inside[at].wait(30)
    with pytest.raises(UserWarning, match="of this thread"):
        warnings.warn("of this thread", stacklevel=1)
    for at, thread in enumerate(threads):  # the first that came is the first to go
        leave[at].set()
        thread.join()
    assert found == [(8, 8)] * 2
    with pytest.raises(UserWarning, match="afterwards"):
        warnings.warn("afterwards", stacklevel=1)
