import pytest
import torch

from multicl.modalities.audio import Audio, Augment
from multicl.modalities.audio.background import heard, mixed, partners, rows_of

LENGTHS = (300, 70, 500, 1, 200)


def sounds(*lengths):
    return [torch.randn(n, generator=torch.Generator().manual_seed(n)) * (1 + i) for i, n in enumerate(lengths)]


def audio(**changes):
    return Audio(rate=1000, strong=Augment(**changes))


def test_every_row_hears_another_one_and_each_as_often():
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    found = torch.stack([partners(part) for part in draws.split(5)])
    for row in range(5):
        counts = found[:, row].bincount(minlength=5)
        assert counts[row] == 0
        assert counts[torch.arange(5) != row].sub(1000).abs().max() < 120
    assert partners(torch.tensor([0.999999, 0.0])).tolist() == [1, 0]


def test_mixing_is_the_plain_form_a_row_at_a_time():
    rows = sounds(*LENGTHS)
    batch = Audio(rate=1000).collate(rows)
    wave, lengths = batch.get("wave"), batch.lengths
    place, other = torch.tensor([0.0, 0.5, 0.99, 0.3, 0.7]), torch.tensor([1, 2, 0, 4, 3])
    ratio = torch.tensor([0.5, 0.1, 1.0, 2.0, 0.0])
    out = mixed(wave, lengths, heard(rows_of(wave, lengths), other, place, lengths, wave.shape[1]), ratio)
    for i, row in enumerate(rows):
        beside = rows[other[i]]
        start = int(float(place[i]) * len(beside))
        looped = [float(beside[(start + j) % len(beside)]) for j in range(len(row))]
        power = sum(float(x) ** 2 for x in row) / sum(x**2 for x in looped)
        wanted = [float(x) + float(ratio[i]) * power**0.5 * y for x, y in zip(row, looped, strict=True)]
        torch.testing.assert_close(out[i, : len(row)], torch.tensor(wanted), atol=1e-5, rtol=1e-5)
        assert out[i, len(row) :].abs().sum() == 0


def test_a_view_has_the_asked_ratio_and_as_many_rows_as_asked():
    lengths = range(200, 400)
    batch = Audio(rate=1000).collate(sounds(*lengths))
    clean = batch.get("wave")
    out = audio(background=0.25, background_snr_db=(6, 6)).view(batch, torch.arange(200) * 7919).get("wave")
    added = out - clean
    touched = added.abs().amax(1) > 0
    assert 30 < touched.sum() < 70
    ratio = 10 * (clean[touched].square().sum(1) / added[touched].square().sum(1)).log10()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 6.0), atol=0.01, rtol=0)
    again = audio(background=0.25, background_snr_db=(6, 6)).view(batch, torch.arange(200) * 7919)
    assert torch.equal(again.get("wave"), out)


@pytest.mark.parametrize("rows", [[torch.randn(50)], [torch.randn(50), torch.zeros(30)]])
def test_alone_or_beside_silence_nothing_is_added(rows):
    batch = Audio(rate=1000).collate(rows)
    out = audio(background=1.0).view(batch, torch.arange(len(rows)))
    assert torch.equal(out.get("wave"), batch.get("wave"))
