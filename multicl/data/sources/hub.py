"""Works offline: if the hub does not answer, data downloaded earlier can still be opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from multicl.data.sources.reasons import reason
from multicl.types import InputError


@contextmanager
def offline_if_unreachable(name: str) -> Iterator[None]:
    """Ask the hub once for a data set of this name; if it does not answer, switch `datasets` to offline mode.

    Without this, `datasets` would retry for half a minute. In offline mode it opens what was downloaded earlier.

    Raises:
        InputError: the hub is unreachable, and no such data set was downloaded earlier.
    """
    import datasets
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    unreachable: Exception | None = None
    try:
        HfApi().dataset_info(name, timeout=10)
    except HfHubHTTPError:  # it answered: `datasets` reports best what is wrong with the name
        pass
    except Exception as error:
        unreachable = error
    if unreachable is None:
        yield
        return
    before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
    try:
        yield
    except (ConnectionError, OSError) as error:
        raise InputError(
            f"cannot read {name!r}: there is no such file or folder, and the Hugging Face hub, which might have a data "
            f"set of that name, cannot be reached ({reason(unreachable)})"
        ) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = before
