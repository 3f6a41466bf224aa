"""Run a function in several real processes over gloo; the function must live in an importable module.

They are forked from a server that has imported the slow libraries and multicl and done nothing else, so each starts
afresh.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp

mp.set_forkserver_preload(
    ["torch._dynamo", "accelerate", "datasets", "torchvision.transforms.v2", "transformers", "multicl.trainer"]
)


def run_ranks(
    function: Callable[..., Any], world: int, *args: Any, start: str = "forkserver", met: bool = True
) -> list[Any]:
    """[function(*args) of rank 0, of rank 1, ...]; results must pickle. A rank that hangs or dies fails in two minutes.

    start: "spawn" if libraries read the environment of a test when they are imported.
    met: a process group of CPUs is set up before the function is called; otherwise Accelerate gets no settings.
    """
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    environment = {
        **os.environ, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    if not met:
        environment = {name: value for name, value in environment.items() if not name.startswith("ACCELERATE_")}
    context = mp.get_context(start)
    queue = context.Queue()
    processes = [context.Process(target=_rank, args=(function, r, environment, args, met, queue)) for r in range(world)]
    for p in processes:
        p.start()
    try:
        results: dict[int, Any] = dict(queue.get(timeout=120) for _ in range(world))
        for p in processes:
            p.join(60)
    finally:
        for p in processes:
            p.kill()
    for rank, (ok, value) in sorted(results.items()):
        assert ok, f"rank {rank} failed:\n{value}"
    return [results[rank][1] for rank in range(world)]


def _rank(
    function: Callable[..., Any], rank: int, environment: dict[str, str], args: Any, met: bool, queue: Any
) -> None:
    os.environ.clear()  # the server's is as old as the server
    os.environ.update(environment, RANK=str(rank), LOCAL_RANK=str(rank))
    torch.set_num_threads(1)
    try:
        from accelerate import PartialState

        if met:
            PartialState(cpu=True)
        result = True, function(*args)
    except BaseException:
        result = False, traceback.format_exc()
    queue.put((rank, result))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
