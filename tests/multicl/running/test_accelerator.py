"""Processes of a launcher that tells Accelerate nothing, as torchrun, meet on a machine without a GPU, too."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from ranked_accelerator import meets
from ranks import run_ranks

from multicl import Train
from multicl.running.accelerator import accelerator_of


@pytest.mark.parametrize("first", [("train",), ("name",), ("name", "train")], ids=["train", "name", "both"])
@pytest.mark.parametrize("told", [{}, {"ACCELERATE_USE_CPU": "true"}], ids=["torchrun", "accelerate"])
def test_processes_on_cpus_meet_whoever_asks_first_and_wait_for_hours(first, told):
    assert run_ranks(meets, 2, first, told, met=False) == [(2, 2, rank, "3:00:00") for rank in range(2)]


def two_processes(script: str, told: dict[str, str]) -> list[str]:
    """What each prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    env |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", **told}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**env, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    try:
        return [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()


THREADS = """
import atexit, os
def threads():
    names = [open(f"/proc/self/task/{thread}/comm").read() for thread in os.listdir("/proc/self/task")]
    return sum("gloo" in name for name in names)
atexit.register(lambda: print(threads()))
import torch
from multicl.running.accelerator import meet
from multicl.distributed import World
meet()
world = World.current()
print(world.agree(world.rank == 1), int(world.sum(torch.tensor(world.rank))), threads() > 0)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted as Linux names them")
def test_no_thread_of_gloo_is_left_when_python_ends():
    """One that lets go of the last collective's tensors later aborts the process, now and then."""
    assert two_processes(THREADS, {}) == ["[True] 1 True\n0\n"] * 2


@pytest.fixture
def afresh():
    """Accelerate's state is of the process: before and after, it has looked at nothing."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("told", [False, True], ids=["alone", "accelerate"])
def test_an_apple_gpu_is_left_alone_and_said_to_be(told, afresh, monkeypatch, capsys):
    for name in ("is_available", "is_built"):
        monkeypatch.setattr(torch.backends.mps, name, lambda: True)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    if told:
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    accelerator_of(Train(), None)
    assert Accelerator().device.type == "cpu"
    assert capsys.readouterr().out == (
        "training on the CPU: Apple's GPUs lack float64, which drawing views and exact sums need\n"
    )
