"""Status, notes, the best checkpoint, patience, losses that are not finite, and what can be wrong with a folder."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from ranked_lifecycle import agreements, left_out, one_fails
from ranks import run_ranks
from safetensors import SafetensorError
from safetensors.torch import load_file
from toys import Vectors, rows

from multicl import Head, InputError, Model, Momentum, Pair, Train, Trainer
from multicl.distributed import World
from multicl.files import alone
from multicl.running.checkpoint import checkpoints
from multicl.running.lifecycle import read_status
from multicl.signals import EXIT_STOPPED, HANGUP, SIGNALS, Signals, Stopped, interrupts
from multicl.towers import Towers
from multicl.training.finite import Finite
from multicl.training.memory import Memory

NAN = float("nan")


def trainer(run: Path | None, data: Any = None, evaluate: Any = None, resume: bool = False, **train: Any) -> Trainer:
    options: dict[str, Any] = {"batch_size": 16, "steps": 8, "lr": 1e-2, "checkpoint_every": 3, "log_every": 1, **train}
    return Trainer(
        {"a": Vectors(dropout=0.1), "b": Vectors(width=5)},
        [Pair("a", "b"), Pair("a", "a", keys="momentum", queue=24)],
        rows(64) if data is None else data,
        train=Train(**options),
        head=Head(norm="batch"),
        run=run,
        resume=resume,
        evaluate=evaluate,
    )


def status(run: Path) -> dict[str, Any]:
    """What status.json says, but for the time."""
    found = read_status(run)
    assert found.pop("seconds") > 0
    return found


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock")
def test_two_runs_never_train_in_one_folder(tmp_path: Path) -> None:
    """Ranks whose launcher was killed go on; a run that is resumed meanwhile would write what they write."""
    run = tmp_path / "run"
    first = trainer(run)

    def begin_another(step: int, *_: object) -> None:
        with pytest.raises(InputError, match=f"another process is training in {run}"):
            trainer(run, resume=True)

    first.miner.refresh = begin_another  # type: ignore[method-assign]
    second = trainer(run, resume=True)
    first.fit()
    with alone(run), pytest.raises(InputError, match="another process is training"):
        second.fit()
    second.fit()
    assert read_status(run)["state"] == "finished"


def steps(run: Path) -> list[int]:
    return [step for step, _ in checkpoints(run / "checkpoints")]


def scores(*values: float) -> Callable[[Model], Mapping[str, float]]:
    """An evaluation that gives one value after the other."""
    left = iter(values)
    return lambda model: {"score": next(left)}


# Status and signals


def test_status_says_how_a_run_ended(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run).fit()
    assert status(run) == {"state": "finished", "step": 8, "total": 8, "reason": None, "best_step": None}
    t = trainer(tmp_path / "broken")
    said: list[str] = []

    def dies(*args: Any) -> Any:
        said.append(read_status(tmp_path / "broken")["state"])
        raise RuntimeError("the roof fell in")

    t._step = dies  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="the roof"):
        t.fit()
    assert said == ["running"]
    assert read_status(tmp_path / "broken")["state"] == "failed"
    assert read_status(tmp_path / "broken")["reason"] == "the roof fell in"
    assert read_status(tmp_path / "none") == {}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_step_saves_and_leaves(
    tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    run, outside = tmp_path / "run", signal.signal(number, signal.SIG_DFL)  # whatever the tests were started by
    t = trainer(run)
    step = t._step

    def asked(wrapped: Any, part: Any, at: int) -> Any:
        if at == 4:
            os.kill(os.getpid(), number)
            t.lifecycle.signals.asked(within=10)
        return step(wrapped, part, at)

    t._step = asked  # type: ignore[method-assign]
    try:
        with pytest.raises(Stopped) as stopped:
            t.fit()
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    assert stopped.value.code == EXIT_STOPPED == 75
    assert (stopped.value.step, stopped.value.reason) == (5, number.name)
    how = f"Trainer(..., run={str(run)!r}, resume=True)"
    assert capsys.readouterr().err.endswith(f"\n{number.name}: saved at step 5; to continue: {how}\n")
    assert status(run) == {
        "state": "stopped", "step": 5, "total": 8, "reason": number.name, "best_step": None
    }  # fmt: skip
    assert steps(run) == [3, 5]
    assert not (run / "model").exists()
    (run / "status.json").write_text(json.dumps({**read_status(run), "seconds": 1000.0}))
    trainer(run, resume=True).fit()
    assert 1000 < read_status(run)["seconds"] < 2000  # with the part before
    trainer(tmp_path / "whole").fit()
    assert read_status(tmp_path / "whole")["seconds"] < 1000
    assert [row["loss"] for row in metrics(run)] == [row["loss"] for row in metrics(tmp_path / "whole")]


def test_a_signal_after_the_last_step_stops_before_the_run_says_that_it_is_finished(tmp_path: Path) -> None:
    """While the last checkpoint is written, say: it was heard, and nothing followed."""
    run = tmp_path / "run"
    t = trainer(run)
    save = t.lifecycle.save

    def asked(step: int, *args: Any) -> None:
        save(step, *args)
        if step == 8:
            os.kill(os.getpid(), signal.SIGTERM)
            t.lifecycle.signals.asked(within=10)

    t.lifecycle.save = asked  # type: ignore[assignment]
    with pytest.raises(Stopped) as stopped:
        t.fit()
    assert stopped.value.step == 8
    assert read_status(run)["state"] == "stopped"
    trainer(run, resume=True).fit()
    assert read_status(run)["state"] == "finished"
    assert (run / "model").exists()


@pytest.mark.parametrize("dies", [False, True])
def test_a_signal_while_the_first_rows_are_loaded(tmp_path: Path, dies: bool) -> None:
    """Whether the loaders live on or not, no step is taken; those of a resumed run stay as they were."""
    run = tmp_path / "run"
    trainer(run, steps=3).fit()
    t = trainer(run, resume=True)
    slices = t._slices

    def asked(start: int) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        t.lifecycle.signals.asked(within=10)
        if dies:
            raise InputError("a loader process died")
        yield from slices(start)

    t._slices = asked  # type: ignore[method-assign]
    with pytest.raises(Stopped) as stopped:
        t.fit()
    assert stopped.value.step == read_status(run)["step"] == 3
    assert read_status(run)["state"] == "stopped"
    assert len(metrics(run)) == 3


def test_a_stop_whose_status_finds_no_room_is_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t = trainer(tmp_path / "run")
    tell = t.lifecycle._tell

    def full(state: str, *args: Any) -> None:
        if state == "stopped":
            raise OSError(28, "No space left on device")
        tell(state, *args)

    def asked(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        t.lifecycle.signals.asked(within=10)

    monkeypatch.setattr(t.lifecycle, "_tell", full)
    t.miner.refresh = asked  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        t.fit()
    assert steps(tmp_path / "run") == [1]


IN_TRAINING = """
import hashlib
from multicl.signals import Signals
with Signals() as signals:
    print("up", flush=True)
    print(signals.asked(within=60), signals.reason, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 1 << 28)  # as deep in one call as a long backward pass
"""
OUTSIDE = """
import time
from multicl.signals import interrupts
with interrupts():
    try:
        print("up", flush=True)
        time.sleep(60)
    except KeyboardInterrupt as asked:
        print(asked, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("code", "first", "said"), [(IN_TRAINING, "SIGINT", "True SIGINT"), (OUTSIDE, "SIGTERM", "SIGTERM")]
)
def test_a_second_signal_ends_at_once_but_a_repeat_is_the_same(code: str, first: str, said: str) -> None:
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.send_signal(signal.Signals[first])
        assert process.stdout.readline() == f"{said}\n"
        process.send_signal(signal.Signals[first])
        time.sleep(1.2)
        if HANGUP:  # kernel and shell tell of a terminal's end, each in its time
            process.send_signal(HANGUP)
            time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=20) == 128 + signal.SIGTERM
        finally:
            process.kill()


IN_A_TERMINAL = """
import fcntl, sys, termios, time
from multicl.signals import Signals, interrupts
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # its session's own: the end of the terminal is told
with {within} as signals:
    try:
        print("up", flush=True)
        if signals:
            signals.asked(within=60)
            asked = signals.reason
        else:
            time.sleep(60)
    except KeyboardInterrupt as interrupt:
        asked = str(interrupt)
    for stream in sys.stdout, sys.stderr:
        print("what is said here raised an OSError", file=stream, flush=True)
sys.exit(75 if asked == "SIGHUP" else 1)
"""


@pytest.mark.skipif(HANGUP is None, reason="there is no such signal")
@pytest.mark.parametrize("within", ["Signals()", "interrupts()"])
def test_a_closed_terminal_asks_for_a_stop_and_hears_no_more(within: str) -> None:
    terminal, ours = os.openpty()
    code = [sys.executable, "-c", IN_A_TERMINAL.format(within=within)]
    with subprocess.Popen(code, stdin=ours, stdout=ours, stderr=ours, start_new_session=True) as process:
        os.close(ours)
        try:
            with os.fdopen(terminal) as said:
                assert said.readline() == "up\n"
            assert process.wait(timeout=20) == 75
        finally:
            process.kill()


IN_A_PIPE = """
import os, signal, sys, threading
from multicl.signals import Signals
sys.stdin.readline()  # the reader is gone
with Signals() as signals:
    if {asked}:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()  # tee may have heard of it before
    for stream in sys.stdout, sys.stderr:
        print("what is said here raised a BrokenPipeError", file=stream, flush=True)
    print("and this, at Python's end, made the exit code 120")
sys.exit(75)
"""


@pytest.mark.parametrize("asked", [True, False])
def test_a_pipe_whose_reader_the_same_signal_ended_hears_no_more(asked: bool) -> None:
    """Without a signal it breaks, as for any program."""
    pipe, ours = os.pipe()
    command = [sys.executable, "-c", IN_A_PIPE.format(asked=asked)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=ours, stderr=ours) as process:
        os.close(ours)
        os.close(pipe)
        try:
            process.communicate(b"\n", timeout=20)
            assert (process.returncode == 75) is asked
        finally:
            process.kill()


@pytest.mark.skipif(HANGUP is None, reason="there is no such signal")
@pytest.mark.parametrize("within", [Signals, interrupts])
def test_a_hang_up_that_is_ignored_stays_so(within: Any) -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with within() as signals:
            signal.raise_signal(signal.SIGHUP)
            assert not (signals and signals.asked(within=0.1))
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_a_folder_signals_do_what_they_did() -> None:
    t = trainer(None)

    def interrupted(*args: Any) -> Any:
        signal.raise_signal(signal.SIGINT)

    t._step = interrupted  # type: ignore[method-assign]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            t.fit()
    finally:
        signal.signal(signal.SIGINT, before)


def test_signals_outside_the_main_thread_are_left_alone() -> None:
    import threading

    found: list[bool] = []

    def elsewhere() -> None:
        with Signals() as signals:
            found.append(signals.asked())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [False]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_loader_that_the_signal_ended_does_not_fail_the_run(tmp_path: Path) -> None:
    t = trainer(tmp_path / "run")
    slices = t._slices

    def dying(start: int) -> Any:
        stream = slices(start)
        for _ in range(3):
            yield next(stream)
        os.kill(os.getpid(), signal.SIGTERM)
        raise InputError("a loader process died")

    t._slices = dying  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        t.fit()
    assert read_status(tmp_path / "run")["step"] == 3


# Resuming elsewhere, or from what is damaged


def test_another_place_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    trainer(run, steps=3).fit()
    path = run / "checkpoints" / "step-3" / "state.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "threads": 7, "processes": 2}))
    trainer(run, steps=4, resume=True).fit()
    out = capsys.readouterr().out
    assert f"resumed with threads {torch.get_num_threads()}, not 7 as before" in out
    assert "resumed with processes 1, not 2 as before: from here on losses are not bit for bit" in out


def test_a_damaged_checkpoint_is_passed_over_for_the_last_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    trainer(run).fit()
    whole = [row["loss"] for row in metrics(run)]
    file = run / "checkpoints" / "step-8" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1  # one bit: the length still fits
    file.write_bytes(bytes(content))
    trainer(run, resume=True, keep=1).fit()
    assert (
        "step-8 has changed since it was written: state.safetensors does not match the checksum"
        in capsys.readouterr().out
    )
    assert [row["loss"] for row in metrics(run)] == whole
    assert steps(run) == [8]


def test_where_no_checkpoint_is_whole_the_run_does_not_begin_anew_unasked(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run).fit()
    for file in run.rglob("state.safetensors"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read: remove that folder to start over"):
        trainer(run, resume=True).fit()


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path(os.environ["BOMB"]),)


def test_foreign_and_pickled_files_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    trainer(run).fit()
    whole = [row["loss"] for row in metrics(run)]
    bomb = pickle.dumps(Bomb())
    foreign = run / "checkpoints" / "step-99"
    foreign.mkdir()
    for path in (run / "pytorch_model.bin", run / "checkpoints" / "last.ckpt", foreign / "state.safetensors"):
        path.write_bytes(bomb)
    (foreign / "state.json").write_bytes(bomb)
    (run / "checkpoints" / ".step-4").write_text("a file where a folder would be written")
    trainer(run, resume=True, steps=9).fit()
    assert not (tmp_path / "exploded").exists()
    assert [row["loss"] for row in metrics(run)][:8] == whole
    assert steps(run) == [8, 9]


def test_no_room_for_a_checkpoint(tmp_path: Path) -> None:
    """Files may not grow beyond a limit, which fails a write as a full disk does."""
    resource = pytest.importorskip("resource")
    run = tmp_path / "run"
    trainer(run, steps=3).fit()
    t = trainer(run, steps=6, resume=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))
    try:
        with pytest.raises(
            InputError, match=r"step-6 cannot be written: .*Earlier checkpoints are intact: free some space"
        ):
            t.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert steps(run) == [3]
    assert not list(run.rglob(".step-*"))
    assert "cannot be written" in read_status(run)["reason"]
    trainer(run, steps=6, resume=True).fit()
    assert steps(run) == [3, 6]


def test_no_room_for_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr("multicl.running.logbook._append", full)
    with pytest.raises(
        InputError, match=r"the disk of .*run is full: .*Free some space, and continue with --resume auto"
    ):
        trainer(tmp_path / "run").fit()


@pytest.mark.parametrize("before", ["training", "a step"])
def test_a_folder_that_vanishes(tmp_path: Path, before: str) -> None:
    run = tmp_path / "run"
    t = trainer(run, steps=3)
    if before == "training":
        shutil.rmtree(run)
    else:
        t.miner.refresh = lambda step: shutil.rmtree(run, ignore_errors=True)  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"run cannot be written: .*No such file.*continue with --resume auto"):
        t.fit()
    trainer(run, steps=3, resume=True).fit()
    assert read_status(run)["state"] == "finished"


def test_what_is_read_and_is_not_there_is_no_fault_of_the_folders(tmp_path: Path) -> None:
    t = trainer(tmp_path / "run")
    t.miner.refresh = lambda step: (tmp_path / "none").read_text()  # type: ignore[assignment, method-assign, return-value]
    with pytest.raises(FileNotFoundError):
        t.fit()


def test_metrics_that_may_not_grow(tmp_path: Path) -> None:
    """As beyond a quota of the shell's; the error names no file."""
    resource = pytest.importorskip("resource")
    t = trainer(tmp_path / "run", checkpoint_every=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(InputError, match=r"run cannot be written: .*File too large.*continue with --resume auto"):
            t.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_no_room_for_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"

    def full(model: Any, name: str) -> None:
        Path(name).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr("multicl.model.save_model", full)
        with pytest.raises(InputError, match=r"the disk of .*run/model is full: "):
            trainer(run, steps=3).fit()
    assert read_status(run)["state"] == "failed"
    assert not list(run.glob("*model*")) + list(run.glob(".*"))
    trainer(run, steps=3, resume=True).fit()
    assert read_status(run)["state"] == "finished"
    assert (run / "model" / "model.safetensors").exists()


def test_a_run_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/run cannot be written: .*Fix this, or give another --run"):
        trainer(tmp_path / "file" / "run")
    with pytest.raises(InputError, match=r"file cannot be written: .*or give another --run"):
        trainer(tmp_path / "file", resume=True)


@pytest.mark.parametrize("state", ["running", "finished"])
def test_no_room_for_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    from multicl.running import lifecycle

    def full(path: Path, text: str, **options: Any) -> None:
        if f'"state": "{state}"' in text:
            raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(lifecycle, "write_whole", full)
    with pytest.raises(
        InputError, match=r"the disk of .*run is full: .*Free some space, and continue with --resume auto"
    ):
        trainer(tmp_path / "run", steps=3).fit()


def test_rows_left_out_are_remembered(tmp_path: Path) -> None:
    data = rows(64)
    data[3]["a"] = [1.0]
    run = tmp_path / "run"
    trainer(run, data, steps=4).fit()
    first = (run / "skipped.jsonl").read_text()
    assert json.loads(first)["row"] == 3
    t = trainer(run, data, steps=8, resume=True)
    t.fit()
    assert (run / "skipped.jsonl").read_text() == first
    assert [bad.row for bad in t.skipped] == [3]


# The best


def test_the_best_checkpoint_stays_and_is_the_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    seen: list[torch.Tensor] = []

    def evaluate(model: Model) -> dict[str, float]:
        seen.append(model.towers.encoders["a"].net[0].weight.detach().clone())  # type: ignore[index]
        return {"score": [1.0, 3.0, 2.0, 3.0][len(seen) - 1], "other": NAN}

    model = trainer(run, evaluate=evaluate, evaluate_every=2, best="score", keep=1, checkpoint_every=0).fit()
    assert steps(run) == [4, 8]
    assert read_status(run)["best_step"] == 4
    assert torch.equal(model.towers.encoders["a"].net[0].weight, seen[1])  # type: ignore[index]
    figures = [(row["step"], row["eval/score"], row["eval/other"]) for row in metrics(run) if "eval/score" in row]
    assert figures == [(2, 1.0, None), (4, 3.0, None), (6, 2.0, None), (8, 3.0, None)]


def test_figures_on_the_way_are_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a folder there is nothing else that has them."""
    many = {**{f"f{i}": i / 8 for i in range(8)}, "score": 0.5}
    trainer(tmp_path / "run", steps=2, evaluate=lambda _: many, evaluate_every=2, best="score").fit()
    said = "step 2: score 0.5000, f0 0.0000, f1 0.1250, f2 0.2500, f3 0.3750, f4 0.5000 and 3 more"
    assert said in capsys.readouterr().err.splitlines()
    trainer(None, steps=4, evaluate=lambda _: {"x": NAN}, evaluate_every=2).fit()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]
    assert told == ["step 2: x nan", "step 4: x nan"]


def test_a_figure_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run, evaluate=scores(NAN, 0.2, 0.5, NAN), evaluate_every=2, best="score", patience=3).fit()
    assert read_status(run)["best_step"] == 6


def test_an_evaluation_may_have_no_figures_to_give(tmp_path: Path) -> None:
    seen: list[int] = []
    trainer(tmp_path, evaluate=lambda m: seen.append(m.embed(a=[[0.0] * 6]).shape[0]), evaluate_every=2).fit()
    assert set(seen) == {1}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (0.5, "evaluate must give figures by name, a dict, or nothing; got float"),
        ({"a": {"b": 1.0}}, "evaluate must give numbers, got {'b': 1.0} for 'a'"),
        ({"a": torch.ones(2)}, r"evaluate must give numbers, got tensor\(\[1., 1.\]\) for 'a'"),
    ],
)
def test_figures_that_are_none_are_refused(tmp_path: Path, found: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trainer(tmp_path, evaluate=lambda m: found, evaluate_every=2).fit()


def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    trainer(tmp_path / "with", evaluate=lambda m: {"x": m.embed(a=[[0.0] * 6]).sum().item()}, evaluate_every=2).fit()
    trainer(tmp_path / "without").fit()
    losses = [[row["loss"] for row in metrics(tmp_path / n) if "loss" in row] for n in ("with", "without")]
    assert losses[0] == losses[1]


def test_patience_ends_the_run_and_it_stays_ended(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {"evaluate_every": 1, "best": "score", "best_is": "lowest", "patience": 2}
    trainer(run, evaluate=scores(5.0, 4.0, 4.5, 4.0), **options).fit()
    assert status(run) == {"state": "finished", "step": 4, "total": 8, "reason": None, "best_step": 2}
    trainer(run, evaluate=scores(), resume=True, **options).fit()
    assert steps(run)[-1] == 4


def test_the_best_is_remembered_over_a_break(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {"evaluate_every": 2, "best": "score", "keep": 1}
    trainer(run, evaluate=scores(1.0, 5.0), steps=4, **options).fit()
    trainer(run, evaluate=scores(2.0, 3.0), steps=8, resume=True, **options).fit()
    assert steps(run) == [4, 8]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"best": "other"},
            "resumed with train.best highest other, not highest score: only later steps can be best",
        ),
        ({"best_is": "lowest"}, "resumed with train.best lowest score, not highest score: only later steps"),
    ],
)
def test_another_best_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict[str, Any], words: str
) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {"evaluate_every": 2, "best": "score", "keep": 1}
    trainer(run, evaluate=scores(8.0, 5.0), steps=4, **options).fit()

    def evaluate(model: Model) -> dict[str, float]:
        return {"score": 7.0, "other": 0.1}

    trainer(run, evaluate=evaluate, steps=8, resume=True, **{**options, **other}).fit()
    assert words in capsys.readouterr().out
    assert read_status(run)["best_step"] == 6
    assert steps(run) == [6, 8]


def test_a_checkpoint_that_does_not_name_its_best_is_taken_at_its_word(tmp_path: Path) -> None:
    run = tmp_path / "run"
    options: dict[str, Any] = {"evaluate_every": 2, "best": "score", "keep": 1}
    trainer(run, evaluate=scores(1.0, 5.0), steps=4, **options).fit()
    path = run / "checkpoints" / "step-4" / "state.json"
    state = json.loads(path.read_text())
    assert state.pop("best_by") == ["highest", "score"]
    path.write_text(json.dumps(state))
    trainer(run, evaluate=scores(2.0, 3.0), steps=8, resume=True, **options).fit()
    assert steps(run) == [4, 8]


def test_without_a_best_a_resumed_run_ends_with_its_last_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    trainer(run, evaluate=scores(5.0, 1.0), steps=4, evaluate_every=2, best="score").fit()
    model = trainer(run, steps=8, resume=True).fit()
    assert "the final model is that of the last step, not of the best (2)" in capsys.readouterr().out
    last = load_file(run / "checkpoints" / "step-8" / "state.safetensors")
    assert all(torch.equal(t, last[f"towers:{name}"]) for name, t in model.towers.state_dict().items())
    assert status(run) == {"state": "finished", "step": 8, "total": 8, "reason": None, "best_step": None}
    assert steps(run) == [6, 8]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"best": "score"}, "needs evaluations: give --train.evaluate-every"),
        ({"patience": 3}, "train.patience must be 1 or more and needs train.best"),
        ({"evaluate_every": -1}, "train.evaluate_every must be 0 or more"),
        ({"not_finite_limit": 0}, "train.not_finite_limit must be 1 or more"),
        ({"evaluate_every": 1}, r"needs a function that measures: give Trainer\(evaluate=...\)"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        trainer(tmp_path / "run", **settings)


def test_a_best_that_is_not_measured(tmp_path: Path) -> None:
    t = trainer(tmp_path / "run", evaluate=scores(1.0), evaluate_every=1, best="recall")
    with pytest.raises(InputError, match=r"train.best is 'recall', but the figures are \['score'\]"):
        t.fit()
    with pytest.raises(InputError, match="needs a folder"):
        trainer(None, evaluate=scores(1.0), evaluate_every=1, best="score")


# Losses that are not finite


def poisoned() -> list[dict[str, Any]]:
    data = rows(64)
    data[5]["a"] = [NAN] * 6
    return data


def test_a_loss_that_is_not_finite_names_the_batch(tmp_path: Path) -> None:
    run = tmp_path / "run"
    t = trainer(run, poisoned(), log_every=100)
    with pytest.raises(InputError, match=r"the loss is nan at step (\d) .its rows are in .*not-finite\.jsonl"):
        t.fit()
    (told,) = [json.loads(line) for line in (run / "not-finite.jsonl").read_text().splitlines()]
    assert told["loss"] == "nan"
    assert len(told["rows"]) == 16
    assert 5 in told["rows"]
    assert all(step < told["step"] for step in steps(run))
    assert read_status(run)["state"] == "failed"


def test_or_its_step_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    model = trainer(run, poisoned(), not_finite="skip").fit()
    told = [json.loads(line) for line in (run / "not-finite.jsonl").read_text().splitlines()]
    assert len(told) == 2  # two epochs of four steps
    assert all(5 in row["rows"] for row in told)
    assert capsys.readouterr().out.count(": step skipped") == 2
    assert all(t.isfinite().all() for t in model.towers.state_dict().values())
    lost = {row["step"] for row in told}
    assert {row["step"] for row in metrics(run) if row["loss"] is None} == lost


def test_a_run_resumed_before_a_step_that_is_left_out_is_the_unbroken_one(tmp_path: Path) -> None:
    """Momentum towers lose nothing with the step."""
    options: dict[str, Any] = {"not_finite": "skip", "checkpoint_every": 1, "keep": 12, "steps": 12}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model = trainer(whole, poisoned(), **options).fit()
    lost = [json.loads(line)["step"] for line in (whole / "not-finite.jsonl").read_text().splitlines()]
    assert lost == [4, 5, 10]
    shutil.copytree(whole, broken)
    for step in range(10, 13):
        shutil.rmtree(broken / "checkpoints" / f"step-{step}")
    again = trainer(broken, poisoned(), resume=True, **options).fit()
    assert [row["loss"] for row in metrics(broken)] == [row["loss"] for row in metrics(whole)]
    ours, theirs = (m.towers.state_dict() for m in (model, again))
    assert all(torch.equal(t, theirs[name]) for name, t in ours.items())


def test_momentum_towers_keep_what_they_followed_and_lose_what_they_computed() -> None:
    towers = Towers({"a": Vectors()}, [Pair("a", "a", keys="momentum", queue=4)], Head(norm="batch"))
    memory = Memory(towers, Momentum(rate=0.5))
    slow = memory.towers
    assert slow is not None
    finite = Finite(towers, memory, None, Train(not_finite="skip"), World())
    rows, fine = torch.arange(2), torch.tensor(1.0)
    with torch.no_grad():
        for t in (*towers.parameters(), *towers.buffers()):
            t.add_(1)
    assert finite.takes(1, fine, None, rows)
    memory.follow(towers, 0.0)
    finite.remember()
    before = {name: t.clone() for name, t in memory.state().items()}
    for t in (*slow.buffers(), *(queue.z for queue in memory.queues.values())):
        t.fill_(9)
    assert not finite.takes(2, fine * NAN, None, rows)
    assert all(torch.equal(t, before[name]) for name, t in memory.state().items())


def test_with_a_limit(tmp_path: Path) -> None:
    data = [{**row, "a": [NAN] * 6} for row in rows(64)]
    with pytest.raises(InputError, match="more than 2 such steps in a row"):
        trainer(tmp_path / "run", data, not_finite="skip", not_finite_limit=2).fit()
    assert len((tmp_path / "run" / "not-finite.jsonl").read_text().splitlines()) == 3


def test_a_gradient_that_is_not_finite_stops_the_run_too(tmp_path: Path) -> None:
    t = trainer(tmp_path / "run")
    t.towers.encoders["b"].net[0].weight.register_hook(lambda g: g * NAN)  # type: ignore[index, union-attr]
    with pytest.raises(InputError, match="the gradient is not finite at step 1"):
        t.fit()


def test_a_gradient_that_is_not_finite_is_left_out_without_clipping_too(tmp_path: Path) -> None:
    t, calls = trainer(tmp_path / "run", log_every=100, not_finite="skip"), []
    t.optim = replace(t.optim, clip=None)

    def poison(grad: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return grad * (NAN if len(calls) == 5 else 1)

    t.towers.encoders["b"].net[0].weight.register_hook(poison)  # type: ignore[index, union-attr]
    model = t.fit()
    assert all(x.isfinite().all() for x in model.towers.state_dict().values())
    (told,) = [json.loads(line) for line in (tmp_path / "run" / "not-finite.jsonl").read_text().splitlines()]
    assert told["step"] == 5


def test_what_every_rank_leaves_out_is_counted_and_named(tmp_path: Path) -> None:
    assert run_ranks(left_out, 2, str(tmp_path / "run")) == [[3, 9, 20, 41]] * 2
    named = [json.loads(line)["row"] for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert sorted(named) == [3, 9, 20, 41]


def test_a_rank_that_is_left_alone_blames_the_other(tmp_path: Path) -> None:
    first, last = run_ranks(one_fails, 2, str(tmp_path / "run"))
    assert last == "the roof fell in"
    status = read_status(tmp_path / "run")
    assert (status["state"], first in status["reason"]) == ("failed", True)
    assert status["reason"].startswith("another process failed: its output says why (here: ")


def test_ranks_agree_on_what_is_not_finite(tmp_path: Path) -> None:
    found = run_ranks(agreements, 2, str(tmp_path))
    assert found[0] == found[1]
    assert found[0]["stop"] == [True, True, True, True, 0]
    assert found[0]["skip"] == [True, False, True, 0]
    assert found[0]["flags"] == found[0]["over gloo beside nccl"] == [True, False, True]
    assert found[0]["groups"] is False
    for policy in ("stop", "skip"):
        (told,) = (tmp_path / policy / "not-finite.jsonl").read_text().splitlines()
        assert json.loads(told)["step"] == 2
        assert json.loads(told)["rows"] == [0, 1, 10, 11]


def test_what_a_kill_at_the_last_step_left_is_swept_away_by_a_run_that_has_no_more_to_save(tmp_path: Path) -> None:
    run = tmp_path / "run"
    trainer(run).fit()
    left = run / "checkpoints" / ".step-1"
    left.mkdir()
    (left / "state.safetensors").write_bytes(b"torn")
    trainer(run, resume=True).fit()
    assert not left.exists()
    assert list((run / "checkpoints").glob("step-*"))
