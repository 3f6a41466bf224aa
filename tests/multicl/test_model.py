from __future__ import annotations

import json
import os
import pickle
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import hf
import numpy as np
import pandas
import pyarrow
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from toys import Net, Vectors, rows

import multicl
from multicl import Head, InfoNCE, Model, Pair, load, register
from multicl.modalities.text import Text
from multicl.model import DEFAULT, space_named
from multicl.towers import Towers
from multicl.types import BadSample, Batch, InputError

CELLS = [row["a"] for row in rows(20)]


def model(**options: Any) -> Model:
    torch.manual_seed(0)
    nodes = {"a": Vectors(dropout=0.5), "b": Vectors(width=5)}
    return Model(Towers(nodes, [Pair("a", "b"), Pair("a", "a", space="own")], Head(dim=4, norm="batch")), **options)


@register("sequences")
@dataclass(frozen=True)
class Sequences(Vectors):
    """Lists of any length, padded; what a batch holds is noted."""

    def load(self, raw: Any, rng: Any) -> Tensor:
        if not raw:
            raise BadSample("no numbers")
        return torch.tensor(raw, dtype=torch.float32)

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        lengths = torch.tensor([len(s) for s in samples])
        assert list(lengths) == sorted(lengths), "batches are made by length"
        batches.append(len(samples))
        x = torch.stack([nn.functional.pad(s, (0, self.size - len(s))) for s in samples])
        return Batch({"x": x, "lengths": lengths})


batches: list[int] = []


def test_what_other_libraries_models_have_leads_on_to_ours() -> None:
    with pytest.raises(AttributeError, match=r"a Model has no 'encode': embed\(NODE=\[\.\.\.\]\) gives vectors"):
        model().encode(CELLS)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"no 'to': model\.towers is its nn\.Module"):
        model().to("cpu")  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"a Model has no 'foo'$"):
        _ = model().foo  # type: ignore[attr-defined]
    assert pickle.loads(pickle.dumps(model())).nodes == ["a", "b"]


def test_nodes_of_one_tower_are_saved_and_loaded_with_a_pretrained_encoder(tmp_path: Path) -> None:
    """Each was given a folder of its own, and the two were refused as of two encoders."""
    bert = str(hf.bert(tmp_path / "bert"))
    nodes = {name: Text(bert, tower="text", prompt=f"{name} : ", max_tokens=16) for name in ("query", "a")}
    saved = Model(Towers(nodes, [Pair("query", "a")], Head(dim=4)))
    saved.save(tmp_path / "model")
    (tmp_path / "bert").rename(tmp_path / "gone")
    again = load(tmp_path / "model", device="cpu")
    for name in nodes:
        assert torch.equal(again.embed_node(name, hf.TEXTS), saved.embed_node(name, hf.TEXTS))
    again.save(tmp_path / "copy")
    assert [path.name for path in sorted((tmp_path / "copy").iterdir()) if path.is_dir()] == ["query"]
    assert load(tmp_path / "copy", device="cpu").embed(a="cat").shape == (1, 4)


def test_cells_want_the_name_of_their_node() -> None:
    wanted = r"embed takes one node at a time, of \['a', 'b'\]; got none: write embed\(a=\[\.\.\.\]\)"
    with pytest.raises(InputError, match=wanted):
        model().embed(CELLS)  # type: ignore[arg-type]


def test_a_model_tells_what_it_embeds_and_how_wide() -> None:
    nodes = "a: features 8, joint 4, own 4; b: features 5, joint 4"
    assert repr(model()) == f"Model({nodes}; embeds into the space 'joint')"
    assert repr(model(space=None)) == f"Model({nodes}; embeds into the encoders' features)"


def test_a_command_lines_space_is_one_that_a_model_takes() -> None:
    assert [space_named(name) for name in (None, "features", "joint")] == [DEFAULT, None, "joint"]


def test_the_same_call_gives_the_same_bits_and_leaves_the_mode_as_it_was() -> None:
    m = model()
    m.towers.train()
    first = m.embed(a=CELLS)
    assert torch.equal(first, m.embed(a=CELLS))
    assert m.towers.training
    assert first.dtype == torch.float32
    assert first.shape == (20, 4)
    assert torch.allclose(first.norm(dim=1), torch.ones(20))


def test_the_order_is_kept_though_batches_are_made_by_length() -> None:
    m = Model(Towers({"s": Sequences()}, [Pair("s", "s")]))
    cells = [[float(i)] * (1 + (i * 7) % 6) for i in range(50)]
    batches.clear()
    together = m.embed(s=cells, batch_size=8)
    assert max(batches) == 8
    one_by_one = torch.cat([m.embed(s=[cell]) for cell in cells])
    assert torch.allclose(together, one_by_one, atol=1e-6)
    skipped: dict[int, str] = {}
    holes = [[], *cells[:2], [], *cells[2:]]
    found = m.embed_node("s", holes, batch_size=1, skipped=skipped)  # windows of 16 cells
    assert skipped == {0: "no numbers", 3: "no numbers"}
    assert torch.equal(found[[0, 3]], torch.zeros(2, found.shape[1]))
    assert torch.allclose(found[[i for i in range(len(holes)) if i not in skipped]], one_by_one, atol=1e-6)


@dataclass(frozen=True)
class Slow(Vectors):
    """Takes its time, the earlier cells more of it; of two dimensions where it has `grid`, as pictures are."""

    grid: bool = False
    seen: list[Any] = field(default_factory=list, compare=False)

    def load(self, raw: Any, rng: Any) -> Tensor:
        self.seen.append(threading.current_thread().name)
        time.sleep(0.001 + 0.002 * (len(self.seen) % 2))
        sample = super().load(raw, rng)
        return sample[None] if self.grid else sample

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        batches.append(len(self.seen))
        return super().collate([sample.flatten() for sample in samples])


@pytest.mark.parametrize("grid", [False, True])
def test_threads_load_ahead_and_change_nothing(grid: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    m = Model(Towers({"s": Slow(grid=grid)}, [Pair("s", "s")]))
    cells: list[Any] = [row["a"] for row in rows(150)]
    cells[40], cells[90] = [1.0], None
    found = []
    for count in (1, 3):
        monkeypatch.setattr("multicl.data.ahead.cores", lambda count=count: count)
        seen = m.towers.modalities["s"].seen  # type: ignore[attr-defined]
        seen.clear()
        batches.clear()
        skipped: dict[int, str] = {}
        found.append((m.embed_node("s", cells, batch_size=4, skipped=skipped), skipped))
        assert len(set(seen)) == (1 if count == 1 else 4)
        assert batches[0] <= (4 + 8 + 1 if grid else 64 + 8 + 1)  # what has no length waits for nothing
        assert len(seen) == 150
        with pytest.raises(InputError, match=r"^s\[40\]: expected 6 numbers, got \[1\.0\]$"):
            m.embed_node("s", cells, batch_size=4)
        assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1] == {40: "expected 6 numbers, got [1.0]", 90: "expected 6 numbers, got None"}


def test_no_thread_is_left_where_the_encoder_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multicl.data.ahead.cores", lambda: 3)
    slow = Slow(grid=True)
    m = Model(Towers({"s": slow}, [Pair("s", "s")]))

    def fails(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(m.towers, "embed", fails)
    with pytest.raises(KeyboardInterrupt):
        m.embed_node("s", CELLS * 50, batch_size=16)
    assert len(slow.seen) <= 16 + 2 * 16 + 1
    assert not any(thread.name.startswith("ahead") for thread in threading.enumerate())


def test_spaces_features_and_raw_vectors() -> None:
    m = model()
    assert torch.equal(m.embed(a=CELLS), m.embed(a=CELLS, space="joint"))
    assert not torch.equal(m.embed(a=CELLS), m.embed(a=CELLS, space="own"))
    assert m.embed(a=CELLS, space=None).shape == (20, 8)
    assert torch.equal(model(space=None).embed(b=CELLS), m.embed(b=CELLS, space=None))
    raw = m.embed(a=CELLS, normalize=False)
    assert torch.equal(nn.functional.normalize(raw, dim=1), m.embed(a=CELLS))
    assert m.embed(a=[]).shape == (0, 4)
    assert m.embed(a=(cell for cell in CELLS)).shape == (20, 4)
    table = pyarrow.table({"a": CELLS})
    for column in (
        table["a"],
        table["a"].combine_chunks(),
        datasets.Dataset(table)["a"],
        table.to_pandas()["a"].map(list),
    ):
        assert torch.equal(m.embed(a=column), m.embed(a=CELLS))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"c": CELLS}, r"no node is named 'c'; there are \['a', 'b'\]"),
        ({}, r"one node at a time, of \['a', 'b'\]; got none"),
        ({"a": CELLS, "b": CELLS}, r"one node at a time.*\['a', 'b'\]"),
        ({"a": "x.png"}, r"a= takes a list of cells, got one str: write a=\[\.\.\.\]"),
        ({"a": b"x"}, "got one bytes"),
        ({"a": {"bytes": b""}}, "got one dict"),
        ({"a": pandas.DataFrame({"a": CELLS})}, r"a= takes one column of cells.*write a=table\['COLUMN'\]"),
        ({"a": datasets.Dataset.from_dict({"a": CELLS})}, r"a= takes one column of cells.*write a=table\['COLUMN'\]"),
        ({"a": pyarrow.table({"a": CELLS})}, r"a= takes one column of cells.*write a=table\['COLUMN'\]"),
        ({"a": np.array(3.0)}, "got one ndarray"),
        ({"a": Path("x.png")}, "got one P"),
        (
            {"a": CELLS, "space": "other"},
            r"'a' has no space 'other'; it has \['joint', 'own'\] and None .*command line: features",
        ),
        ({"b": CELLS, "space": "own"}, r"'b' has no space 'own'; it has \['joint'\] and None"),
        ({"a": CELLS, "batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"a": [*CELLS, [1.0]]}, r"^a\[20\]: expected 6 numbers, got \[1\.0\]$"),
    ],
)
def test_a_call_that_cannot_work_is_refused(call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model().embed(**call)


@dataclass(frozen=True)
class Alone(Vectors):
    """Knows one cell when it sees it; of six numbers in a tuple it cannot tell."""

    def single(self, values: Any) -> bool:
        if isinstance(values, tuple):
            raise BadSample("may be one or six: give [cell] or list(cell)")
        return isinstance(values, list) and isinstance(values[0], float)


def test_one_cell_needs_no_list_where_the_modality_knows_it() -> None:
    m = Model(Towers({"v": Alone()}, [Pair("v", "v")]))
    assert torch.equal(m.embed(v=CELLS[0]), m.embed(v=[CELLS[0]]))
    assert m.embed(v=CELLS).shape[0] == 20
    with pytest.raises(InputError, match=r"^v= may be one or six: give \[cell\] or list\(cell\)$"):
        m.embed(v=tuple(CELLS[0]))
    with pytest.raises(InputError, match=r"^v\[0\]: expected 6 numbers, got \[1\.0\]$"):
        m.embed(v=[1.0])


def test_an_unknown_default_space_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"no space is named 'x'; there are \['joint', 'own'\] and None .*line: features"
    ):
        model(space="x")


@pytest.mark.parametrize("space", ["joint", "own", None])
def test_saved_and_loaded_it_gives_the_same_bits(tmp_path: Path, space: str | None) -> None:
    m = model(space=space)
    with torch.no_grad():
        m.towers.heads["a/joint"][1].running_mean.add_(0.3)  # a buffer
    m.save(tmp_path / "m", {"recall": 0.5})
    again = load(tmp_path / "m", device="cpu")
    assert (again.space, again.nodes, again.towers.terms) == (space, ["a", "b"], m.towers.terms)
    assert again.towers.modalities == m.towers.modalities
    for name in ("joint", None):
        assert all(torch.equal(m.embed(space=name, **{n: CELLS}), again.embed(space=name, **{n: CELLS})) for n in "ab")
    assert torch.equal(m.embed(a=CELLS), again.embed(a=CELLS))
    again.save(tmp_path / "again")
    assert torch.equal(m.embed(a=CELLS), load(tmp_path / "again", device="cpu").embed(a=CELLS))


def test_a_model_has_a_card(tmp_path: Path) -> None:
    card = (model().save(tmp_path / "m", {"recall": 0.51234}) / "README.md").read_text()
    assert "model.embed(a=[...])" in card
    assert "| recall | 0.5123 |" in card
    assert "Nodes: a (vectors), b (vectors). Pairs: a-b, a-a." in card
    dashed = Model(Towers({"a-b": Vectors()}, [Pair("a-b", "a-b", name="p")])).save(tmp_path / "d")
    assert 'model.embed(**{"a-b": [...]})' in (dashed / "README.md").read_text()


def test_a_run_or_a_model_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = model()
    m.save(tmp_path / "runs" / "one" / "model")
    monkeypatch.chdir(tmp_path)
    for name in ("runs/one", Path("runs/one/model"), tmp_path / "runs" / "one"):
        assert torch.equal(load(name, device="cpu").embed(a=CELLS), m.embed(a=CELLS))


def test_a_shared_tower_is_saved_once(tmp_path: Path) -> None:
    nodes = {"q": Vectors(tower="t"), "k": Vectors(tower="t")}
    m = Model(Towers(nodes, [Pair("q", "k")]))
    m.save(tmp_path / "m")
    names = load_file(tmp_path / "m" / "model.safetensors").keys()
    assert {n for n in names if n.startswith("encoders.")} == {"encoders.t.net.0.weight", "encoders.t.net.0.bias"}
    again = load(tmp_path / "m", device="cpu")
    assert torch.equal(again.embed(q=CELLS), again.embed(k=CELLS))


class Tied(Net):
    """One tensor under two names, as language models have it."""

    def __init__(self, settings: Vectors) -> None:
        super().__init__(settings)
        self.same = self.net[0]


@register("tied")
@dataclass(frozen=True)
class TiedVectors(Vectors):
    def build(self, weights: bool = True) -> nn.Module:
        return Tied(self)


def test_tensors_that_share_memory_are_saved_once_and_shared_again(tmp_path: Path) -> None:
    m = Model(Towers({"t": TiedVectors()}, [Pair("t", "t")]))
    m.save(tmp_path / "m")
    assert sum(n.startswith("encoders.") for n in load_file(tmp_path / "m" / "model.safetensors")) == 2
    again = load(tmp_path / "m", device="cpu")
    assert torch.equal(again.embed(t=CELLS), m.embed(t=CELLS))
    encoder: Any = again.towers.encoders["t"]
    assert encoder.same.weight is encoder.net[0].weight


@register("own")
@dataclass(frozen=True)
class Own(Vectors):
    """An encoder may be a module of one's own."""

    def build(self, weights: bool = True) -> nn.Module:
        return self.encoder


def test_an_encoder_of_ones_own_is_given_again(tmp_path: Path) -> None:
    own = Own(encoder=Net(Vectors(width=3)))
    m = Model(Towers({"a": own, "b": Vectors()}, [Pair("a", "b")]))
    m.save(tmp_path / "m")
    with pytest.raises(InputError, match=r"encoder of 'a' .*\(toys\.Net\): give it as load\(\.\.\., modalities=\{'a'"):
        load(tmp_path / "m")
    again = load(tmp_path / "m", modalities={"a": replace(own, encoder=Net(Vectors(width=3)))}, device="cpu")
    assert torch.equal(again.embed(a=CELLS), m.embed(a=CELLS))
    with pytest.raises(InputError, match=r"modalities= names \['c'\], but the model's nodes are \['a', 'b'\]"):
        load(tmp_path / "m", modalities={"a": own, "c": own})


@dataclass(frozen=True)
class Bilinear:
    """An objective that is not multicl's own, between spaces of unlike widths."""

    scale: float = 2.0

    def build(self, dims: tuple[int, int]) -> nn.Module:
        return nn.Bilinear(*dims, 1)


def test_an_objective_of_ones_own_is_no_obstacle(tmp_path: Path) -> None:
    nodes = {"a": Vectors(width=3), "b": Vectors(width=5)}
    m = Model(Towers(nodes, [Pair("a", "b", Bilinear(scale=3.0))], Head(layers=0)))
    m.save(tmp_path / "m")
    again = load(tmp_path / "m", device="cpu")
    assert torch.equal(again.embed(b=CELLS), m.embed(b=CELLS))
    again.save(tmp_path / "again")  # and it stays recorded
    first, second = (json.loads((tmp_path / n / "config.json").read_text())["pairs"] for n in ("m", "again"))
    assert first == second
    assert first[0]["objective"] == {f"{Bilinear.__module__}.Bilinear": {"scale": 3.0}}


def test_a_users_objective_may_have_the_name_of_one_of_multicls(tmp_path: Path) -> None:
    homonym = type("InfoNCE", (Bilinear,), {})
    m = Model(Towers({"a": Vectors(), "b": Vectors(width=5)}, [Pair("a", "b", homonym())], Head(layers=0)))
    m.save(tmp_path / "m")
    assert not isinstance(load(tmp_path / "m").towers.terms[0].objective, InfoNCE)


def test_a_learnt_temperature_is_kept(tmp_path: Path) -> None:
    m = Model(Towers({"a": Vectors()}, [Pair("a", "a", InfoNCE(learnable=True))]))
    with torch.no_grad():
        m.towers.objectives["a-a"].log_scale.fill_(1.5)
    m.save(tmp_path / "m")
    assert load(tmp_path / "m").towers.objectives["a-a"].log_scale.item() == 1.5


def test_an_adapter_that_is_missing_is_named_with_its_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model().save(tmp_path / "m")
    monkeypatch.setattr("multicl.adapters._registered", {})
    with pytest.raises(
        InputError, match=r"node 'a': no adapter named 'vectors' is installed.*was saved with it from toys"
    ):
        load(tmp_path / "m")


def break_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "config.json").unlink(), "holds no model"),
        (lambda p: (p / "config.json").write_text("{"), "holds no model"),
        (lambda p: (p / "config.json").write_text('{"model_type": "bert"}'), "holds no model"),
        (lambda p: break_config(p, format=2), "no config.json of a multicl model of format 1"),
        (lambda p: break_config(p, heads=3), r"config\.json is damaged"),
        (lambda p: break_config(p, pairs=[{"a": "a"}]), r"config\.json is damaged"),
        (lambda p: (p / "model.safetensors").unlink(), r"model\.safetensors cannot be read"),
        (lambda p: (p / "model.safetensors").write_bytes(b"x" * 99), r"model\.safetensors cannot be read"),
        (
            lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-9]),
            r"model\.safetensors cannot be read",
        ),
        (
            lambda p: break_config(p, heads={"joint": {"dim": 9}, "own": {"dim": 4}}),
            r"does not fit its config\.json: 'heads\.a/joint\.\d\.bias' and \d+ more",
        ),
        (lambda p: break_config(p, heads={"joint": {"dmi": 9}}), r"unknown key 'heads\.joint\.dmi'"),
        (lambda p: break_config(p, heads={"joint": {"dmi": 9}}), r"[/\\]m: unknown key"),
        (lambda p: break_config(p, space="other"), r"[/\\]m: no space is named 'other'"),
    ],
)
def test_a_damaged_folder_is_refused(tmp_path: Path, damage: Any, message: str) -> None:
    damage(model().save(tmp_path / "m"))
    with pytest.raises(InputError, match=message):
        load(tmp_path / "m")


class Bomb:
    def __reduce__(self) -> Any:
        return pytest.fail, ("a pickle was read",)


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    folder = model().save(tmp_path / "m")
    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        (folder / name).write_bytes(pickle.dumps(Bomb()))
    assert load(folder).nodes == ["a", "b"]
    (folder / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load(folder)


def test_a_name_that_leads_nowhere_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("./none", "/none/at/all", "just-a-word", "a/b/c"):
        with pytest.raises(InputError, match=f"no such folder: {name}"):
            load(name)
    (tmp_path / "recipe.yaml").write_text("recipe: x\n")
    with pytest.raises(InputError, match=r"holds no model yet: finish it with .*--resume auto"):
        load(tmp_path)

    def unreachable(*args: Any, **options: Any) -> str:
        raise ConnectionError("hub.example is unreachable\nlong story")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(InputError, match=r"^'user/model' is neither .* on the hub: hub\.example is unreachable$"):
        load("user/model")


def test_the_hub_gives_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model().save(tmp_path / "m")
    asked: dict[str, Any] = {}

    def snapshot(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert load("user/model").nodes == ["a", "b"]
    assert asked["name"] == "user/model"
    assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in asked["allow_patterns"])


def test_saving_replaces_a_model_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    m = model()
    m.save(tmp_path / "m")
    model(space=None).save(tmp_path / "m")
    assert load(tmp_path / "m").space is None
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="home exists and is not a multicl model"):
        m.save(home)
    with pytest.raises(InputError, match="exists and is not a multicl model"):
        m.save(home / "thesis.tex")
    assert (home / "thesis.tex").read_text() == "years of work"
    monkeypatch.chdir(tmp_path / "m")
    (tmp_path / "empty").mkdir()
    assert m.save("../empty") == tmp_path / "empty"


def test_home_is_where_it_is_for_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert model().save("~/m") == (tmp_path / "m").resolve()
    assert load("~/m").nodes == ["a", "b"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_who_may_read_the_settings_may_read_the_weights(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder = model().save(tmp_path / "m")
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()} == {"0o640"}


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_available_is_named(device: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"device='{device}' is not available: ."):
        load(model().save(tmp_path / "m"), device=device)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_vectors_are_of_float32_whatever_the_default(default: torch.dtype) -> None:
    m = model()
    expected = m.embed(a=CELLS)
    torch.set_default_dtype(default)
    try:
        assert torch.equal(m.embed(a=CELLS), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_modality_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    class Nameless(Vectors):
        pass

    with pytest.raises(InputError, match="Nameless is not a registered adapter"):
        Model(Towers({"a": Nameless()}, [Pair("a", "a")])).save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_the_public_names() -> None:
    assert multicl.Model is Model
    assert multicl.load is load
