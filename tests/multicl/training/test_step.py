from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from steps import Built, Dice, Words, apart, cells, context, grads_of, kept, looks, step, three, tied
from torch import Tensor, nn
from toys import Vectors, rows

from multicl import Head, InfoNCE, InputError, Pair, Train, Trainer
from multicl.functional import info_nce
from multicl.pairs import View
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.chunks import cut
from multicl.training.replay import embed
from multicl.training.step import Outcome, exact_step
from multicl.types import Batch, Context, Embedded

SIZES = [1, 3, 4, 7]


def one_node(net: Any, head: Head | None = None, **settings: Any) -> tuple[Towers, list[Any]]:
    """Towers of one node through a net, and the looks of 8 rows."""
    seed_everything("test")
    towers = Towers({"a": Built(net=net, **settings)}, [Pair("a", "a", InfoNCE(0.3))], head or Head(dim=7))
    size = settings.get("size", 6)
    return towers, looks(towers, {"a": Batch({"x": torch.randn(8, size, generator=torch.Generator().manual_seed(2))})})


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_gradient_is_that_of_one_plain_backward(dropout: float) -> None:
    towers = three(dropout)
    batches = cells(towers)
    batches["b"] = batches["b"][3:]
    seen = looks(towers, batches)
    loss, wanted = kept(towers, seen)
    outcome, grads = step(towers, seen)
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_in_chunks_it_is_that_of_the_whole_batch_where_nothing_drops_out(size: int) -> None:
    towers = three()
    batches = cells(towers)
    batches["b"], batches["w"] = batches["b"][3:], batches["w"][torch.tensor([6, 1, 0, 4, 7])]
    seen = looks(towers, batches)
    loss, wanted = kept(towers, seen)
    outcome, grads = step(towers, seen, size)
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-5
    assert grads["objectives.a-b.log_scale"].abs() > 0.01


@pytest.mark.parametrize("size", SIZES)
def test_gradcache_dropout_is_replayed(size: int) -> None:
    towers = three(dropout=0.3)
    seen = looks(towers, cells(towers))
    loss, wanted = kept(towers, seen, size)
    torch.manual_seed(99)  # what was drawn before decides nothing
    outcome, grads = step(towers, seen, size)
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-5
    assert apart(step(towers, seen)[1], wanted) > 0.05  # other chunks drop other units


@pytest.mark.parametrize("size", SIZES)
def test_every_generator_is_replayed(size: int) -> None:
    towers, seen = one_node(lambda: nn.Sequential(nn.Linear(6, 8), Dice()))
    loss, wanted = kept(towers, seen, size)
    outcome, grads = step(towers, seen, size)
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-5


class Wav2Vec(nn.Module):
    """A tiny one from its config, with its own masks in time (drawn from numpy), dropout and LayerDrop."""

    def __init__(self) -> None:
        from transformers import Wav2Vec2Config, Wav2Vec2Model

        super().__init__()
        self.model = Wav2Vec2Model(
            Wav2Vec2Config(
                hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, conv_dim=(8, 8),
                conv_kernel=(10, 3), conv_stride=(5, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=8,
                num_conv_pos_embedding_groups=2, mask_time_prob=0.5, mask_time_length=2, layerdrop=0.3,
            )
        )  # fmt: skip

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        states: torch.Tensor = self.model(wave).last_hidden_state
        return states.mean(1)


@pytest.mark.parametrize("size", [3, 8])
def test_hugging_faces_audio_masks_are_replayed(size: int) -> None:
    towers, seen = one_node(Wav2Vec, size=200)
    loss, wanted = kept(towers, seen, size)
    outcome, grads = step(towers, seen, size)
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-4
    assert grads["encoders.a.net.model.masked_spec_embed"].norm() > 0


@pytest.mark.parametrize("size", [None, 3])
def test_tied_towers_add_up(size: int | None) -> None:
    towers = tied()
    seen = looks(towers, cells(towers))
    assert apart(step(towers, seen, size)[1], kept(towers, seen)[1]) < 1e-5


@pytest.mark.parametrize("chunks", [1, 2, 4, 8])
def test_open_clip_accum_freq_temperature_gradient_is_not_k_times_too_large(chunks: int) -> None:
    towers = tied()
    seen = looks(towers, cells(towers))
    name = "objectives.a-b.log_scale"
    wanted = kept(towers, seen)[1][name]
    torch.testing.assert_close(step(towers, seen, 8 // chunks)[1][name], wanted)


@pytest.mark.parametrize("size", [None, 2])
def test_solo_learns_overflow_at_a_small_temperature(size: int | None) -> None:
    seed_everything("test")
    towers = Towers({"a": Vectors()}, [Pair("a", "a", InfoNCE(0.005))], Head(dim=7))  # exp(200) is not a float32
    outcome, grads = step(towers, looks(towers, cells(towers)), size)
    assert torch.isfinite(outcome.loss)
    assert all(torch.isfinite(g).all() for g in grads.values())


@pytest.mark.parametrize("size", [None, 3])
def test_every_parameter_gets_a_gradient_where_a_modality_is_absent(size: int | None) -> None:
    towers = three()
    batches: dict[str, Batch | None] = {**cells(towers), "b": None}
    outcome, grads = step(towers, looks(towers, batches), size)
    assert torch.isfinite(outcome.loss)
    assert set(grads) == {name for name, _ in towers.named_parameters()}
    assert all(g.abs().sum() == 0 for name, g in grads.items() if name.startswith("encoders.b"))
    assert any(g.abs().sum() > 0 for name, g in grads.items() if name.startswith("encoders.a"))


@pytest.mark.parametrize("size", [None, 3])
def test_or_where_all_are(size: int | None) -> None:
    towers = three()
    outcome, grads = step(towers, looks(towers, dict.fromkeys(towers.modalities)), size)
    assert outcome.loss == 0
    assert set(grads) == {name for name, _ in towers.named_parameters()}
    assert all(g.abs().sum() == 0 for g in grads.values())


@pytest.mark.parametrize(("size", "calls"), [(None, [8]), (8, [8]), (4, [4, 4, 4]), (3, [2, 3, 3, 2, 3])])
def test_nothing_is_computed_twice_but_chunks_before_the_last(size: int | None, calls: list[int]) -> None:
    towers = tied()
    rows_of: list[int] = []
    encoder = towers.encoders["t"]
    encoder.register_forward_hook(lambda module, args, out: rows_of.append(len(out)))
    step(towers, looks(towers, cells(towers))[:1] + looks(towers, {"a": None, "b": None})[1:], size)
    assert rows_of == calls


TABLES: dict[str, Callable[[], nn.Module]] = {
    "table": lambda: nn.Embedding(20, 7, padding_idx=0),
    "tied to a decoder": lambda: Decoded(),
    "mean": lambda: nn.EmbeddingBag(20, 7, mode="mean", padding_idx=0),
    "sum": lambda: nn.EmbeddingBag(20, 7, mode="sum"),
    "max": lambda: nn.EmbeddingBag(20, 7, mode="max"),
    "by frequency": lambda: nn.Embedding(20, 7, scale_grad_by_freq=True),
}


class Decoded(nn.Embedding):
    """A table that words are read from and compared with, as language models tie theirs."""

    def __init__(self) -> None:
        super().__init__(20, 7)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ self.weight.T


def tabled(table: Callable[[], nn.Module]) -> tuple[Towers, list[Any]]:
    """Towers of one node through a table, and looks whose rows repeat words, within and across."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = table()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.table((x.abs() * 10).long() % 20)
            return found.flatten(1) if found.ndim == 3 else found

    width = {"Decoded": 6 * 20, "Embedding": 6 * 7}.get(type(table()).__name__, 7)
    return one_node(Net, width=width)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("table", list(TABLES))
def test_a_table_of_embeddings_gets_the_same_gradient_in_chunks(table: str, size: int) -> None:
    if table == "by frequency":  # counts words within a chunk, so that chunks are not the whole batch
        towers, seen = tabled(TABLES[table])
        _, wanted = kept(towers, seen, size)
    else:
        towers, seen = tabled(TABLES[table])
        _, wanted = kept(towers, seen)
    _, grads = step(towers, seen, size)
    assert apart(grads, wanted) < 1e-5
    assert all(g.layout is torch.strided for g in grads.values())


@pytest.mark.parametrize("compiled", [False, True])
def test_only_the_first_chunk_makes_a_gradient_of_the_whole_table(compiled: bool) -> None:
    towers, seen = tabled(TABLES["mean"])
    (table,) = [part for part in towers.modules() if isinstance(part, nn.EmbeddingBag)]
    if compiled:
        table.compile(backend="eager")
    made: list[torch.layout] = []
    table.weight.register_hook(lambda grad: made.append(grad.layout))
    step(towers, seen, 2)  # two views of 8 rows: the last chunk keeps its graph, and six lie between
    between = torch.strided if compiled else torch.sparse_coo
    assert made == [torch.strided] + 6 * [between] + [torch.strided]
    assert not table.sparse
    assert table.weight.grad is not None
    assert table.weight.grad.layout is torch.strided


def test_texts_are_cut_by_length_and_padding_vanishes() -> None:
    seed_everything("test")
    towers = Towers({"w": Words()}, [Pair("w", "w")], Head(dim=7))
    net: Any = towers.encoders["w"]
    batch = cells(towers)["w"]
    lengths = sorted(batch.get("lengths").tolist(), reverse=True)
    step(towers, looks(towers, {"w": batch}), 2)
    wanted = [(2, longest) for longest in lengths[::2]]
    assert net.seen == (wanted * 4)[:-1]  # two views, embedded and replayed, but for the last
    assert batch.get("ids").shape == (8, max(lengths) + 3)


# BatchNorm


def normed() -> tuple[Towers, list[Any]]:
    return one_node(lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=0.25), nn.Tanh()))


@pytest.mark.parametrize("size", [2, 4, 8])
def test_batch_norms_statistics_move_once_a_chunk_and_never_in_replay(size: int) -> None:
    towers, seen = normed()
    linear, norm = towers.encoders["a"].net[0], towers.encoders["a"].net[1]  # type: ignore[index]
    mean, var = torch.zeros(8), torch.ones(8)
    with torch.no_grad():
        for _ in towers.requests:
            for start in range(0, 8, size):
                h = linear(seen[0].batch.get("x")[start : start + size])  # type: ignore[union-attr]
                mean, var = 0.75 * mean + 0.25 * h.mean(0), 0.75 * var + 0.25 * h.var(0)
    step(towers, seen, size)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert norm.num_batches_tracked == 2 * 8 // size
    assert norm.track_running_stats


@pytest.mark.parametrize("size", [2, 8])
def test_instance_norms_statistics_move_once_a_chunk_too(size: int) -> None:
    def net() -> nn.Module:
        norm = nn.InstanceNorm1d(2, momentum=0.25, track_running_stats=True)
        return nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 4)), norm, nn.Flatten())

    towers, seen = one_node(net)
    linear, norm = towers.encoders["a"].net[0], towers.encoders["a"].net[2]  # type: ignore[index]
    mean, var = torch.zeros(2), torch.ones(2)
    with torch.no_grad():
        for _ in towers.requests:
            for start in range(0, 8, size):
                h = linear(seen[0].batch.get("x")[start : start + size]).view(-1, 2, 4)  # type: ignore[union-attr]
                mean, var = 0.75 * mean + 0.25 * h.mean((0, 2)), 0.75 * var + 0.25 * h.var(2).mean(0)
    step(towers, seen, size)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    assert norm.track_running_stats


def test_its_gradient_is_that_of_the_same_chunks() -> None:
    towers, seen = normed()
    wanted = kept(towers, seen, 4)[1]
    assert apart(step(towers, seen, 4)[1], wanted) < 1e-5
    assert apart(step(towers, seen)[1], wanted) > 0.05


def test_no_chunk_of_one_row_is_left_over() -> None:
    towers, seen = normed()
    step(towers, seen, 7)  # BatchNorm refuses to train on one row


def test_a_row_that_is_alone_meets_the_same_statistics_in_both_passes() -> None:
    seed_everything("test")
    nodes = {"a": Vectors(tower="t"), "b": Vectors(tower="t")}
    towers = Towers(nodes, [Pair("a", "b", InfoNCE(0.3))], Head(dim=7, norm="batch"))
    batches = {node: batch[:n] for (node, batch), n in zip(cells(towers).items(), (5, 3), strict=True)}
    alone: list[torch.Tensor] = []
    towers.head("a", "joint").register_forward_hook(lambda _, args, z: alone.append(z) if len(z) == 1 else None)
    step(towers, looks(towers, batches), 2)
    of_b, of_a, again = alone  # of the last chunk the graph was kept
    assert not torch.equal(of_a, of_b)
    assert torch.equal(of_b, again)


def test_an_encoder_whose_batch_norm_meets_one_row_says_what_to_do() -> None:
    towers, seen = normed()
    for chunk, look in ((1, seen), (None, [replace(look, batch=look.batch[:1]) for look in seen])):  # type: ignore[index]
        with pytest.raises(InputError, match="the encoder of 'a' has a batch norm, which cannot train on 1 row"):
            step(towers, look, chunk)


class Misshapen(nn.Module):
    def __init__(self, how: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.net, self.how = nn.Linear(6, 8), how

    def forward(self, x: Tensor) -> Any:
        return self.how(self.net(x))


@pytest.mark.parametrize(
    ("how", "got"),
    [
        (lambda h: h[:-1], r"\[7, 8\]"),
        (lambda h: h[0], r"\[8\]"),
        (lambda h: h[:, None], r"\[8, 1, 8\]"),
        (lambda h: h[:, :4], r"\[8, 4\]"),
        (lambda h: (h,), "tuple"),
    ],
)
def test_an_encoder_that_gives_other_than_a_vector_a_row_is_refused(how: Callable[[Tensor], Any], got: str) -> None:
    towers, seen = one_node(lambda: Misshapen(how))
    with pytest.raises(InputError, match=rf"encoder of 'a' must give \[rows, width\], here \[8, 8\], got {got}$"):
        step(towers, seen)


# Objectives of one's own


@dataclass(frozen=True)
class Tells:
    """InfoNCE, and what is made of its loss."""

    make: Callable[[Tensor], Any]

    def build(self, dims: tuple[int, int]) -> nn.Module:
        return Telling(self.make)


class Telling(nn.Module):
    def __init__(self, make: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.make = make

    def forward(self, a: Embedded, b: Embedded, context: Context) -> Any:
        return self.make(info_nce(a.z, b.z, 0.3))


def told(make: Callable[[Tensor], Any]) -> Outcome:
    towers = Towers({"a": Vectors()}, [Pair("a", "a", Tells(make))])
    return step(towers, looks(towers, {"a": Batch({"x": torch.ones(8, 6)})}))[0]


def test_numbers_that_are_no_tensors_are_logged() -> None:
    values = told(lambda loss: {"loss": loss, "half": 0.5, "hits": 3, "both": loss.detach() * 2}).logged["a-a"]
    assert {name: value.ndim for name, value in values.items()} == dict.fromkeys(("loss", "half", "hits", "both"), 0)
    assert (values["half"], values["hits"]) == (0.5, 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda loss: loss, "a dict whose 'loss' is a tensor of no dimension, got tensor"),
        (lambda loss: {"lose": loss}, "a dict whose 'loss' is a tensor of no dimension, got {'lose'"),
        (lambda loss: {"loss": loss[None]}, "a tensor of no dimension"),
        (lambda loss: {"loss": loss.item()}, "a tensor of no dimension"),
        (lambda loss: {"loss": loss, "each": torch.ones(2)}, "one number under 'each', got tensor"),
        (lambda loss: {"loss": loss, "note": "hi"}, "one number under 'note', got 'hi'"),
    ],
)
def test_an_objective_that_gives_something_else_is_told_what(make: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(InputError, match=f"the objective of 'a-a' must give .*{message}"):
        told(make)


# Frozen towers


@pytest.mark.parametrize("layers", [0, 2])
def test_a_frozen_tower_is_not_replayed_and_its_head_trains(layers: int) -> None:
    seed_everything("test")
    nodes = {"a": Vectors(width=7, dropout=0.4), "b": Vectors(width=7)}
    towers = Towers(nodes, [Pair("a", "b", InfoNCE(0.3))], Head(dim=7, layers=layers))
    encoder = towers.encoders["a"].eval().requires_grad_(False)
    seen = looks(towers, cells(towers))
    wanted = kept(towers, seen)[1]
    rows_of: list[int] = []
    encoder.register_forward_hook(lambda module, args, out: rows_of.append(len(out)))
    grads = step(towers, seen, 4)[1]
    assert rows_of == [4, 4]
    assert apart(grads, wanted) < 1e-5
    assert {name.partition("/")[0] for name in grads} >= ({"heads.a", "heads.b"} if layers else set())
    assert not any(name.startswith("encoders.a") for name in grads)


# Precision


def prepared(dtype: torch.dtype, towers: Towers) -> Towers:
    """Autocast around `forward`, as Accelerate puts it there."""
    towers.forward = torch.autocast("cpu", dtype)(towers.forward)  # type: ignore[method-assign]
    return towers


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_bf16_autocast(size: int | None, dropout: float) -> None:
    towers = three(dropout)
    seen = looks(towers, cells(towers))
    exact = kept(towers, seen, size)[1]
    prepared(torch.bfloat16, towers)
    loss, wanted = kept(towers, seen, size)
    outcome, grads = step(towers, seen, size)
    assert outcome.loss.dtype == torch.float32
    torch.testing.assert_close(outcome.loss, loss)
    assert apart(grads, wanted) < 1e-2
    assert apart(wanted, exact) > 1e-4  # it was bf16


@pytest.mark.parametrize("size", [None, 3])
def test_fp16_only_the_surrogate_is_scaled(size: int | None) -> None:
    towers = three()
    seen = looks(towers, cells(towers))
    loss, wanted = kept(towers, seen)
    prepared(torch.float16, towers)
    optimizer = torch.optim.SGD(towers.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled: list[torch.Tensor] = []

    def backward(value: torch.Tensor) -> None:
        scaled.append(value.detach())
        scaler.scale(value).backward()

    outcome, grads = step(towers, seen, size, backward=backward)
    torch.testing.assert_close(outcome.loss, loss, rtol=2e-3, atol=0)
    name = "objectives.a-b.log_scale"
    torch.testing.assert_close(grads[name], 1024 * wanted[name], rtol=1e-2, atol=0)
    scaler.unscale_(optimizer)
    assert apart(grads_of(towers), wanted) < 1e-2
    before = [p.detach().clone() for p in towers.parameters()]
    scaler.step(optimizer)
    assert any(not torch.equal(p, q) for p, q in zip(before, towers.parameters(), strict=True))


def test_fp16_a_step_that_overflows_in_one_chunk_is_skipped_whole() -> None:
    towers = three()
    seen = looks(towers, cells(towers))
    optimizer = torch.optim.SGD(towers.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    calls: list[int] = []

    def backward(value: torch.Tensor) -> None:
        calls.append(1)
        scaler.scale(value * (torch.inf if len(calls) == 2 else 1)).backward()

    step(towers, seen, 3, backward=backward)
    before = [p.detach().clone() for p in towers.parameters()]
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(p, q) for p, q in zip(before, towers.parameters(), strict=True))
    assert scaler.get_scale() == 512


# With the rest of training


def test_all_but_the_last_chunk_run_without_reduction() -> None:
    towers = three()
    inside: list[bool] = []
    synced: list[bool] = []

    class Quiet(AbstractContextManager[None]):
        def __enter__(self) -> None:
            inside.append(True)

        def __exit__(self, *error: object) -> None:
            inside.pop()

    def wrapped(requests: Any) -> Any:
        synced.append(not inside)
        return towers(requests)

    step(towers, looks(towers, cells(towers)), 4, wrapped=wrapped, no_sync=Quiet)
    assert synced == [False] * (2 * len(towers.requests) - 2) + [True]


@pytest.mark.parametrize("size", [None, 3])
def test_parameters_that_a_caller_has_listed_are_not_looked_for_and_may_be_frozen_since(size: int | None) -> None:
    towers = three()
    seen, listed = looks(towers, cells(towers)), list(towers.parameters())
    frozen = towers.encoders["b"].requires_grad_(False)
    _, wanted = step(towers, seen, size)
    towers.zero_grad()
    _, grads = step(towers, seen, size, trained=listed)
    assert apart(grads, wanted) == 0
    assert all(p.grad is None for p in frozen.parameters())  # zeros would let weight decay move them


@pytest.mark.parametrize(("size", "whole"), [(8, True), (20, True), (4, False)])
def test_what_is_embedded_in_one_piece_is_not_copied(size: int, whole: bool) -> None:
    towers = three()
    first = looks(towers, cells(towers))[0]
    given: list[Tensor] = []
    towers.register_forward_hook(lambda module, args, found: given.extend(found.values()))
    for z in embed(towers, [first], cut(first, size), replayed=False).values():
        assert torch.equal(z, torch.cat(given))
        assert (z.data_ptr() == given[0].data_ptr()) == whole


def test_gradients_are_added_to_those_there_are() -> None:
    towers = three()
    seen = looks(towers, cells(towers))
    _, once = step(towers, seen, 3)
    exact_step(
        towers, towers, seen, lambda pair, row, negatives=False: row, context, torch.Tensor.backward, 3, nullcontext
    )
    assert apart(grads_of(towers), {name: 2 * g for name, g in once.items()}) < 1e-6


def test_dropout_draws_anew_for_each_view_and_again_for_the_same() -> None:
    towers = three(dropout=0.3)
    asked = [look.requests()[0] for look in looks(towers, cells(towers))]
    first, second = (View("a", "strong", draw) for draw in (0, 1))
    z, again = towers(asked), towers(asked)
    assert not torch.equal(z[first, "own"], z[second, "own"])
    assert torch.equal(z[first, "own"], again[first, "own"])


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_users_random_state_does_not_decide_the_run(chunk: int | None) -> None:
    weights = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        train = Train(batch_size=8, steps=3, chunk_size=chunk)
        trainer = Trainer({"a": Vectors(dropout=0.3)}, [Pair("a", "a")], data=rows(16), train=train)
        trainer.fit()
        weights.append([p.detach().clone() for p in trainer.towers.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*weights, strict=True))
