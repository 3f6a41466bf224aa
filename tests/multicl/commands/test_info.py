from __future__ import annotations

from types import SimpleNamespace

import pytest  # noqa: TC002
import torch

import multicl
from multicl.commands.info import print_info


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    print_info()
    return capsys.readouterr().out


def test_versions_and_adapters_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    out = lines(capsys)
    assert out.startswith(f"multicl {multicl.__version__}, Python ")
    assert f"  torch         {torch.__version__.partition('+')[0]}" in out
    for name, value in (("image", "Image"), ("text", "Text"), ("audio", "Audio")):
        assert f"adapter {name:<8}multicl.modalities.{name}:{value} (multicl {multicl.__version__})" in out


def test_a_cuda_build_without_a_gpu_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert "GPU: none found, though this torch is built for CUDA 12.8: training runs on the CPU" in lines(capsys)


def test_a_cpu_build_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "GPU: none, and this torch is built for the CPU alone" in lines(capsys)


def test_gpus_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    card = SimpleNamespace(name="Toy 9000", total_memory=8 * 2**30, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: card)
    assert "GPU 1: Toy 9000, 8 GiB, compute 9.0" in lines(capsys)


def test_a_package_that_is_missing_is_said_to_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.commands.info.EXTRAS", ("no-such-package",))
    assert "no-such-package" in (out := lines(capsys))
    assert "not installed (an extra)" in out


def test_an_apple_gpu_is_listed_as_left_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "GPU: Apple Metal (mps), which is left alone: Apple's GPUs lack float64" in lines(capsys)
