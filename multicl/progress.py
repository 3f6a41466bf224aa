"""Progress of a run: a bar with loss, rate, time left and memory, or a line now and then where nobody watches."""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor
from tqdm import tqdm

LINE_EVERY = 15.0  # seconds between lines where stderr is a file


class Progress:
    """Counts steps; `rates` gives what metrics.jsonl keeps."""

    def __init__(self, total: int, start: int, batch_size: int, shown: bool) -> None:
        self.total, self.step, self.batch_size = total, start, batch_size
        self.began = self.mark = self.said = time.perf_counter()
        self.start = self.marked_step = start
        self.waited = 0.0
        self.shown = shown
        watched = shown and sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True) if watched else None

    def advance(self, loss: Tensor | None, waited: float) -> None:
        """One step more; `waited` seconds went by for data."""
        self.step += 1
        self.waited += waited
        if self.bar is not None:
            self.bar.update()
            if loss is not None:
                self.bar.set_postfix_str(f"loss {loss.item():.4f}, {_memory()}")
        elif self.shown and loss is not None and time.perf_counter() - self.said > LINE_EVERY:
            self.said = time.perf_counter()
            rate = (self.step - self.start) / (self.said - self.began)
            left = (self.total - self.step) / rate
            print(
                f"step {self.step}/{self.total}  loss {loss.item():.4f}  {rate * self.batch_size:.0f} rows/s  "
                f"{left:.0f} s left  {_memory()}",
                file=sys.stderr,
                flush=True,
            )

    def rates(self) -> dict[str, float]:
        """Rows a second and the share of time spent waiting for data, since the last call."""
        now = time.perf_counter()
        seconds = max(now - self.mark, 1e-9)
        rows = (self.step - self.marked_step) * self.batch_size
        values = {"rows_per_second": rows / seconds, "data_wait": min(1.0, self.waited / seconds)}
        self.mark, self.marked_step, self.waited = now, self.step, 0.0
        return values

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self.bar is not None:
            self.bar.close()


def _memory() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB GPU"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (2**30 if sys.platform == 'darwin' else 2**20):.1f} GiB"
