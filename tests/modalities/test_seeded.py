"""Seeded draws: ranges, moments, independence, and that a row's draws are its own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.modalities import seeded

INT64 = st.integers(-(2**63), 2**63 - 1)
seed_lists = st.lists(INT64, min_size=1, max_size=8)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack((a.double(), b.double())))[0, 1])


def test_the_sequence_is_splitmix64():
    word = seeded._mix(torch.tensor([0]) + seeded._GAMMA)  # first output of the reference generator, seed 0
    assert int(word) % 2**64 == 0xE220A8397B1DCDAF


@settings(deadline=None, max_examples=25)
@given(seed_lists, st.integers(0, 40), INT64)
def test_rows_do_not_depend_on_their_company(seeds, n, stream):
    batch = torch.tensor(seeds)
    for draw in (lambda s: seeded.uniform(s, n, stream), lambda s: seeded.normal(s, (n,), stream)):
        whole = draw(batch)
        assert whole.shape == (len(seeds), n)
        assert whole.dtype == torch.float32
        assert torch.equal(whole, torch.cat([draw(batch[i : i + 1]) for i in range(len(seeds))]))
        assert torch.equal(whole.flip(0), draw(batch.flip(0)))


@settings(deadline=None, max_examples=25)
@given(seed_lists, st.integers(0, 30), st.integers(0, 10))
def test_fewer_draws_are_the_first_of_more(seeds, n, more):
    batch = torch.tensor(seeds)
    assert torch.equal(seeded.uniform(batch, n), seeded.uniform(batch, n + more)[:, :n])
    assert torch.equal(seeded.normal(batch, (n,)), seeded.normal(batch, (n + more,))[:, :n])


@settings(deadline=None, max_examples=25)
@given(seed_lists, st.integers(0, 30), st.integers(0, 5))
def test_streams_at_once_are_those_one_by_one(seeds, n, streams):
    batch = torch.tensor(seeds)
    found = seeded.uniforms(batch, n, streams)
    assert found.shape == (streams, len(seeds), n)
    assert all(torch.equal(own, seeded.uniform(batch, n, stream)) for stream, own in enumerate(found))


@settings(deadline=None, max_examples=25)
@given(INT64, st.integers(0, 1000))
def test_uniform_range_and_moments(seed, stream):
    draws = seeded.uniform(torch.tensor([seed]), 20_000, stream)
    assert float(draws.min()) >= 0
    assert float(draws.max()) < 1
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.012)
    assert float(draws.var()) == pytest.approx(1 / 12, abs=0.005)


def test_normal_moments_and_tails():
    draws = seeded.normal(torch.arange(64), (3, 32, 32)).double()
    assert draws.shape == (64, 3, 32, 32)
    assert float(draws.mean()) == pytest.approx(0, abs=0.01)
    assert float(draws.var()) == pytest.approx(1, abs=0.01)
    assert float((draws**4).mean()) == pytest.approx(3, abs=0.1)
    assert float((draws.abs() > 1.959964).double().mean()) == pytest.approx(0.05, abs=0.003)
    flat = draws.flatten(1)
    assert abs(correlation(flat[:, ::2].flatten(), flat[:, 1::2].flatten())) < 0.01  # the two of a pair


def test_neighbouring_seeds_and_streams_are_independent():
    n = 40_000
    base = seeded.uniform(torch.tensor([7]), n)[0]
    others = [seeded.uniform(torch.tensor([8]), n)[0], seeded.uniform(torch.tensor([7]), n, 1)[0], base.roll(1)]
    others.append(seeded.uniform(torch.tensor([7 + seeded._GAMMA]), n)[0])  # a step of the sequence apart
    for other in others:
        assert abs(correlation(base, other)) < 0.025
        assert len(set(base[:1000].tolist()) & set(other[:1000].tolist())) < 5 or other is others[2]
    across = seeded.uniform(torch.arange(n), 1)[:, 0]  # one draw of each of many neighbouring seeds
    assert float(across.mean()) == pytest.approx(0.5, abs=0.01)
    assert abs(correlation(across[1:], across[:-1])) < 0.025


def test_seeds_of_another_type_are_refused():
    with pytest.raises(TypeError, match=r"\[B\] int64"):
        seeded.uniform(torch.tensor([1.0]), 2)


@pytest.mark.gpu
def test_devices_agree():
    seeds = torch.arange(100)
    assert torch.equal(seeded.uniform(seeds, 1000), seeded.uniform(seeds.cuda(), 1000).cpu())
    torch.testing.assert_close(seeded.normal(seeds, (1000,)), seeded.normal(seeds.cuda(), (1000,)).cpu())


def test_noise_is_normal_to_float32():
    seeds = torch.arange(20) * 7919
    found = seeded.noise(seeds, 5001, stream=3)
    pairs = seeded.normal(seeds, (3 * 2048,), stream=3).unflatten(1, (3, 1024, 2))
    torch.testing.assert_close(found, pairs.transpose(2, 3).flatten(1)[:, :5001], atol=3e-4, rtol=1e-5)
    assert found.dtype == torch.float32
    torch.testing.assert_close(seeded.noise(seeds[2:4], 700, stream=3), found[2:4, :700], atol=1e-6, rtol=1e-6)


def test_noise_is_white_gaussian_and_each_row_s_own():
    n = 50_000
    noise = seeded.noise(torch.arange(20), n).double()
    assert noise.mean().abs() < 5e-3
    assert noise.std() == pytest.approx(1, abs=5e-3)
    assert noise.pow(4).mean() == pytest.approx(3, abs=0.1)
    tail = (noise.abs() > 3).double().mean()
    assert tail == pytest.approx(math.erfc(3 / math.sqrt(2)), rel=0.1)
    spectrum = torch.fft.rfft(noise)
    power = spectrum.abs().square() / n  # white: the same expected power in every band, for each row
    assert power[:, 1:25_000].unflatten(1, (-1, 1923)).mean(2).sub(1).abs().max() < 0.12
    # over all lags at once, also between rows: a stretch that two rows share would stand out
    for other in range(20):
        across = torch.fft.irfft(spectrum * spectrum[(torch.arange(20) + other) % 20].conj(), n=n) / n
        if other == 0:
            across[:, 0] = 0
        assert across.abs().max() < 7 / math.sqrt(n)
