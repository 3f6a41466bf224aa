"""The offline encoders and the user's own module."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from multicl.modalities.text import Text
from multicl.types import Batch, InputError

RAWS = ["a cat", "the dog that sat on the mat, and then some more text", "中文 🚀", "x"]
SMALL = {"width": 32, "layers": 2, "heads": 2, "max_tokens": 48}


class Own(nn.Module):
    """Bytes -> embeddings, per token or summed."""

    def __init__(self, per_token: bool = True, vocabulary: int = 258) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 12)
        self.drop = nn.Dropout(0.0)
        self.per_token = per_token

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.drop(self.embed(ids)) * mask[..., None]
        return states if self.per_token else states.sum(1)


def settings_of(kind: str) -> Text:
    torch.manual_seed(0)
    makes = {
        "mean": lambda: Text("small", **SMALL),
        "cls": lambda: Text("small", pooling="cls", **SMALL),
        "first_last": lambda: Text("small", pooling="first_last", **SMALL),
        "top2": lambda: Text("small", pooling="top2", **SMALL),
        "last": lambda: Text("small", pooling="last", **SMALL),
        "words": lambda: Text("words", width=32),
        "own tokens": lambda: Text(Own()),
        "own rows": lambda: Text(Own(per_token=False)),
    }
    return makes[kind]()


KINDS = ["mean", "cls", "first_last", "top2", "last", "words", "own tokens", "own rows"]


def batch_of(text: Text, raws: list[str]) -> Batch:
    return text.collate([text.load(raw, None) for raw in raws])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_change_a_row(kind: str) -> None:
    text = settings_of(kind)
    encoder = text.build().eval()
    together = encoder(batch_of(text, RAWS))
    assert together.shape == (len(RAWS), encoder.width)
    assert together.dtype == torch.float32
    for row, raw in zip(together, RAWS, strict=True):
        torch.testing.assert_close(encoder(batch_of(text, [raw]))[0], row, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_in_the_padding_is_not_read(kind: str) -> None:
    text = settings_of(kind)
    encoder = text.build().eval()
    batch = batch_of(text, RAWS)
    filled = batch.replace(ids=torch.where(batch.get("mask"), batch.get("ids"), 77))
    torch.testing.assert_close(encoder(filled), encoder(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "cls", "first_last", "words"])
def test_dropout_is_the_augmentation(kind: str) -> None:
    text = settings_of(kind)
    encoder = text.build()
    batch = batch_of(text, RAWS)
    one, other = encoder(batch), encoder(batch)
    assert (one - other).abs().amax(1).min() > 1e-3
    torch.manual_seed(5)
    one = encoder(batch)
    torch.manual_seed(5)
    assert torch.equal(one, encoder(batch))
    encoder.eval()
    assert torch.equal(encoder(batch), encoder(batch))


@pytest.mark.parametrize("name", ["small", "words"])
def test_no_dropout_no_difference(name: str) -> None:
    text = Text(name, dropout=0.0, **SMALL)
    encoder = text.build()
    batch = batch_of(text, RAWS)
    assert torch.equal(encoder(batch), encoder(batch))


def test_mean_is_over_valid_tokens_in_float32() -> None:
    text = settings_of("own tokens")
    encoder = text.build()
    batch = batch_of(text, ["ab", "abcd"])
    by_hand = torch.stack([encoder.module.embed(batch.get("ids")[0, :3]).mean(0)])
    torch.testing.assert_close(encoder(batch)[:1], by_hand)
    encoder.module.bfloat16()
    assert encoder(batch).dtype == torch.float32


def test_first_last_is_the_mean_of_embeddings_and_last_layer() -> None:
    text = settings_of("first_last")
    encoder = text.build().eval()
    batch = batch_of(text, RAWS[:1])
    first = encoder.model.embeddings(batch.get("ids"))
    last = encoder.model(input_ids=batch.get("ids")).last_hidden_state
    torch.testing.assert_close(encoder(batch), (first + last).mean(1) / 2, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:6])
def test_every_parameter_gets_a_gradient(kind: str) -> None:
    text = settings_of(kind)
    encoder = text.build()
    encoder(batch_of(text, RAWS)).square().sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None] == []


def test_offline_encoders_restore_themselves(tmp_path: Path) -> None:
    for kind in ("mean", "words"):
        text = settings_of(kind)
        text.save(tmp_path)
        assert list(tmp_path.iterdir()) == []
        again = text.restored(tmp_path)
        encoder, copy = text.build().eval(), again.build(weights=False).eval()
        copy.load_state_dict(encoder.state_dict())
        batch = batch_of(text, RAWS)
        assert torch.equal(copy(batch_of(again, RAWS)), encoder(batch))


def test_words_learn_in_seconds() -> None:
    torch.manual_seed(0)
    text = Text("words", width=64)
    encoder = text.build()
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    names = ["red", "green", "blue", "black", "white", "yellow", "pink", "brown"]
    said, asked = [batch_of(text, [f"{form} {n}" for n in names]) for form in ("the colour", "something painted")]
    for _ in range(30):
        a, b = (nn.functional.normalize(encoder(batch), dim=1) for batch in (said, asked))
        loss = nn.functional.cross_entropy(10 * a @ b.T, torch.arange(len(names)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder.eval()
    with torch.no_grad():
        scores = nn.functional.normalize(encoder(said), dim=1) @ nn.functional.normalize(encoder(asked), dim=1).T
    assert scores.argmax(1).tolist() == list(range(len(names)))


def test_own_module_keeps_its_mode_and_takes_dropout() -> None:
    module = Own().train()
    module.embed.eval()  # a part that is frozen
    encoder = Text(module, dropout=0.3).build()
    assert module.training
    assert module.drop.training
    assert not module.embed.training
    assert module.drop.p == 0.3
    assert encoder.width == 12


class Gives(nn.Module):
    def __init__(self, what: object) -> None:
        super().__init__()
        self.what = what

    def forward(self, ids: Tensor, mask: Tensor) -> object:
        return self.what


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Own(vocabulary=100), "IndexError"),
        (nn.Linear(3, 3), "Linear"),
        (Gives("text"), "str"),
        (Gives(torch.zeros(3)), r"\[3\]"),
        (Gives(torch.zeros(5, 2)), r"\[5, 2\]"),
    ],
)
def test_own_module_that_does_not_fit(module: nn.Module, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Text(module).build()


def test_own_module_must_be_given_again(tmp_path: Path) -> None:
    text = settings_of("own rows")
    text.save(tmp_path)
    with pytest.raises(InputError, match="modalities="):
        text.restored(tmp_path)


def test_rows_in_groups_of_one_length_are_the_rows_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = Text("small", width=16, layers=1, heads=2, dropout=0.0)
    encoder = text.build().eval()
    batch = text.collate([text.load("x" * (1 + 7 * i % 60), None) for i in range(70)])
    seen: list[tuple[int, ...]] = []
    encoder.model.register_forward_pre_hook(lambda m, a, k: seen.append(tuple(k["input_ids"].shape)), with_kwargs=True)
    grouped = encoder(batch)
    assert len(seen) == 2
    assert sum(rows * width for rows, width in seen) < 0.8 * batch.get("ids").numel()
    monkeypatch.setattr("multicl.modalities.text.encoders.GROUP", 1000)
    torch.testing.assert_close(grouped, encoder(batch), atol=1e-5, rtol=1e-5)
    assert len(seen) == 3
