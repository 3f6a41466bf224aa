"""Progress of a run: a bar with loss, rate, time left and memory, or without a terminal a line from time to time."""

from __future__ import annotations

import sys
import time

import torch
from torch import Tensor
from tqdm import tqdm

from multicl.waiting import LINE_EVERY, watched

WAIT_SHARE, WAIT_SECONDS = 0.3, 10.0  # hint at slow data from this share and time on


class Progress:
    """Counts and shows steps; `rates` gives the rates for metrics.jsonl."""

    def __init__(self, total: int, start: int, batch_size: int, shown: bool) -> None:
        self.total, self.step, self.batch_size = total, start, batch_size
        self.began = self.looked = self.mark = self.said = time.perf_counter()
        self.start = self.marked_step = start
        self.waited = self.waited_in_all = 0.0
        self.hinted = False
        self.shown = shown
        bar = shown and watched()
        self.bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True) if bar else None

    def advance(self, loss: Tensor | None, waited: float) -> None:
        """Count a step; `waited`: seconds spent waiting for its data. A loss is shown if the display is due."""
        self.step += 1
        self.waited += waited
        if self.step == self.start + 1:
            self.looked = time.perf_counter()
        else:
            self.waited_in_all += waited  # the first step's wait is loader start-up
        if self.bar is not None:
            self.bar.update()
        if loss is None or not self.shown:
            return
        now = time.perf_counter()
        if self.bar is not None:
            self.bar.set_postfix_str(self._state(loss))
        elif now - self.said > LINE_EVERY:
            self.said = now
            left = (self.total - self.step) * (now - self.began) / (self.step - self.start)
            self.say(f"step {self.step}/{self.total}  {self._state(loss)}, {tqdm.format_interval(left)} left")
        self._hint(now)

    def rates(self) -> dict[str, float]:
        """Rows per second, and the share of time spent waiting for data, since the last call."""
        values = self._rates()
        self.mark, self.marked_step, self.waited = time.perf_counter(), self.step, 0.0
        return values

    def say(self, line: str) -> None:
        """Print a line on stderr, above the bar; nothing if this process shows no progress."""
        if self.bar is not None:
            tqdm.write(line, file=sys.stderr)
        elif self.shown:
            print(line, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Close the bar, leaving it on screen as it is."""
        if self.bar is not None:
            self.bar.close()

    def _rates(self) -> dict[str, float]:
        seconds = max(time.perf_counter() - self.mark, 1e-9)
        rows = (self.step - self.marked_step) * self.batch_size
        return {"rows_per_second": rows / seconds, "data_wait": min(1.0, self.waited / seconds)}

    def _state(self, loss: Tensor) -> str:
        rates = self._rates()
        wait = f"{rates['data_wait']:.0%} waiting for data, " if rates["data_wait"] >= 0.01 else ""
        return f"loss {loss.item():.4f}, {rates['rows_per_second']:.0f} rows/s, {wait}{_memory()}".rstrip(", ")

    def _hint(self, now: float) -> None:
        """Give a hint, once a run, if data loading is the bottleneck."""
        share = self.waited_in_all / max(now - self.looked, 1e-9)
        if self.hinted or self.waited_in_all < WAIT_SECONDS or share < WAIT_SHARE:
            return
        self.hinted = True
        self.say(
            f"waiting for data {share:.0%} of the time: raise data.workers, or data.cache_gb to keep decoded "
            "data in memory"
        )


def _memory() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB GPU"
    try:
        import resource
    except ImportError:  # Windows
        return ""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"{peak / (2**30 if sys.platform == 'darwin' else 2**20):.1f} GiB"
