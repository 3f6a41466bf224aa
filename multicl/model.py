"""A model: trained towers that embed people's data, saved as a folder and loaded without a hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import torch
from safetensors.torch import save_model
from torch import Tensor

from multicl.data.ahead import loaded
from multicl.files import share, write_whole, writing
from multicl.modes import evaluating
from multicl.predict import probabilities, target_of
from multicl.saved import FORMAT, built, card, config_of, described, folder_of, load_weights
from multicl.synonyms import instead_of
from multicl.towers import Towers
from multicl.types import BadSample, Batch, InputError, Modality, Sample, Single
from multicl.waiting import Waiting

DEFAULT = "the recipe's choice"
"""Placeholder for the space that the model's recipe chose; no space can have this name."""
AND_FEATURES = "None for features (on a command line: features)"
"""The alternative to a model's spaces, as worded in messages."""


def space_named(name: str | None) -> str | None:
    """A space as `Model` takes it, from a command line: "features" are the encoder's own; None: the recipe's choice."""
    return DEFAULT if name is None else None if name == "features" else name


class Model:
    """Towers and the space in which they are compared.

    Args:
        space: default for `embed`: the name of a space, or None for the encoders' features.

    Raises:
        InputError: there is no such space.
    """

    def __init__(self, towers: Towers, space: str | None = "joint") -> None:
        if space is not None and not towers.spaces:
            raise InputError(f"the model has no pairs, so no space {space!r}: give space={AND_FEATURES}")
        if space is not None and space not in towers.spaces:
            raise InputError(f"no space is named {space!r}; there are {list(towers.spaces)} and {AND_FEATURES}")
        self.towers, self.space = towers, space

    def __repr__(self) -> str:
        def told(node: str) -> str:
            spaces = (None, *self.towers.spaces_of(node))
            return f"{node}: " + ", ".join(f"{space or 'features'} {self.towers.dim(node, space)}" for space in spaces)

        chosen = "the encoders' features" if self.space is None else f"the space {self.space!r}"
        return f"Model({'; '.join(map(told, self.nodes))}; embeds into {chosen})"

    if not TYPE_CHECKING:  # type checkers should not see it

        def __getattr__(self, name: str) -> Never:
            raise AttributeError(f"a Model has no {name!r}{instead_of(name)}", name=name, obj=self)

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes, which `embed` takes as keywords."""
        return list(self.towers.modalities)

    def embed(
        self,
        *nameless: Never,
        space: str | None = DEFAULT,
        batch_size: int = 128,
        normalize: bool = True,
        **cells: Any,
    ) -> Tensor:
        """Embed the cells of one node: `model.embed(image=["a.png", "b.png"])`, `model.embed(text=["two words"])`.

        Args:
            space, batch_size, normalize: as in `embed_node`.
            cells: node -> what its modality reads: paths, bytes, arrays, strings; or one of them, `image="a.png"`.

        Returns:
            [N, D] float32 on the CPU, in the order given; unit vectors unless `normalize` is False. The same call gives
            bitwise the same result.

        Raises:
            InputError: the node or space is unknown, or a cell cannot be read; the message gives its position.
        """
        if nameless or len(cells) != 1:
            raise InputError(_one_node("embed", self.nodes, cells))
        ((node, values),) = cells.items()
        return self.embed_node(node, values, space=space, batch_size=batch_size, normalize=normalize)

    def embed_node(
        self,
        node: str,
        values: Any,
        *,
        space: str | None = DEFAULT,
        batch_size: int = 128,
        normalize: bool = True,
        skipped: dict[int, str] | None = None,
    ) -> Tensor:
        """Embed the cells of a node given by name.

        Args:
            values: cells that its modality reads; a single cell gives [1, D] if the modality recognises it
                (`types.Single`).
            space: a space's name, or None for the encoder's features; default: the recipe's choice.
            batch_size: cells computed at once.
            normalize: scale to unit vectors.
            skipped: if given, cells that cannot be read are recorded here (position -> reason) and get zero vectors.

        Returns and raises: as `embed`.
        """
        if node not in self.towers.modalities:
            raise InputError(f"no node is named {node!r}; there are {self.nodes}")
        modality = self.towers.modalities[node]
        values = cells_of(node, modality, values)
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, got {batch_size}")
        chosen = self.space if space == DEFAULT else space
        if chosen is not None and chosen not in self.towers.spaces_of(node):
            own = list(self.towers.spaces_of(node))
            raise InputError(f"{node!r} has no space {chosen!r}; it has {own} and {AND_FEATURES}")
        width = self.towers.width(node) if chosen is None else self.towers.dim(node, chosen)
        out = torch.zeros(len(values), width, dtype=torch.float32)
        window = 16 * batch_size  # cells are sorted by length within a window
        samples_of = loaded(modality, values, most=2 * batch_size)
        with (
            evaluating(self.towers),
            torch.no_grad(),
            closing(samples_of),
            Waiting(len(values), node, "row") as waiting,
        ):
            numbered = enumerate(samples_of)
            for _ in range(0, len(values), window):
                for samples in _batches(islice(numbered, window), batch_size, node, skipped):
                    batch = modality.view(modality.collate(list(samples.values())).to(self.towers.device), None, "weak")
                    (z,) = self.towers.embed(node, batch, [chosen])
                    out[list(samples)] = z.cpu()
                    waiting.update(len(samples))
        return torch.nn.functional.normalize(out, dim=1) if normalize else out

    def embed_batch(self, node: str, batch: Batch) -> Tensor:
        """Embed a batch made by a node's adapter (`collate`, `view`): [B, D], in the default space, not normalised."""
        with evaluating(self.towers), torch.no_grad():
            (z,) = self.towers.embed(node, batch.to(self.towers.device), [self.space])
        return z

    def predict(self, target: str | None = None, *, batch_size: int = 128, **cells: Any) -> list[str]:
        """Predict the class of each cell of a target's node: `model.predict(image=["a.png"])`.

        Args:
            target: its name, if the node has several. batch_size, cells: as in `embed`.

        Raises:
            InputError: as in `embed`, or there is no such target.
        """
        if len(cells) != 1:
            raise InputError(_one_node("predict", self.nodes, cells))
        ((node, values),) = cells.items()
        found = target_of(self.towers, target, node)
        best = probabilities(self, found, values, batch_size).argmax(1)
        return [found.classes[i] for i in best.tolist()]

    def save(self, folder: str | Path, figures: Mapping[str, float] | None = None) -> Path:
        """Write config.json, model.safetensors, what the adapters need, and a model card; replaces the folder at once.

        Args:
            folder: a new folder, or that of a model, which is replaced.
            figures: measurements for the model card.

        Raises:
            InputError: the folder holds something else, or cannot be written (an existing model is then left intact);
                or a modality's class is not a registered adapter.
        """
        folder = Path(folder).expanduser().resolve()
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if taken and config_of(folder) is None:
            raise InputError(f"{folder} exists and is not a multicl model: give another folder")
        config = described(self.towers, self.space)  # refuses before anything is written
        beside = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        try:
            with writing(folder, "and save again (continue a run with --resume auto)"):
                self._write(beside, config, figures or {})
                shutil.rmtree(folder, ignore_errors=True)
                beside.rename(folder)
        except InputError:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        return folder

    def describe(self, folder: Path, figures: Mapping[str, float]) -> None:
        """Rewrite the model card of this model, saved in `folder`, with these figures."""
        write_whole(folder / "README.md", card(described(self.towers, self.space), figures, self.towers))

    def _write(self, beside: Path, config: Mapping[str, Any], figures: Mapping[str, float]) -> None:
        beside.mkdir(parents=True)
        firsts = {self.towers.towers[node]: node for node in reversed(self.nodes)}  # one encoder, one folder
        for node in firsts.values():
            (beside / node).mkdir()
            self.towers.modalities[node].save(beside / node)
            if not any((beside / node).iterdir()):
                (beside / node).rmdir()
        (beside / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False), encoding="utf-8")
        save_model(self.towers, str(beside / "model.safetensors"))
        (beside / "README.md").write_text(card(config, figures, self.towers), encoding="utf-8")
        share(beside, beside / "config.json")


def load(name: str | Path, *, modalities: Mapping[str, Modality] | None = None, device: str | None = None) -> Model:
    """Load a model from a folder (a model's or a run's) or from the hub. No pickle is read, nothing else downloaded.

    Args:
        modalities: node -> adapter, for nodes whose encoder is a module of your own.
        device: default: the GPU if there is one, else the CPU.

    Raises:
        InputError: the folder does not exist or holds no multicl model, the weights do not fit, or there is no such
            device.
    """
    folder = folder_of(name)
    config = config_of(folder)
    if config is None:
        raise InputError(f"{folder} holds no model: it has no config.json of a multicl model of format {FORMAT}")
    try:
        model = Model(*built(config, folder, modalities or {}))
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    load_weights(model.towers.eval(), folder / "model.safetensors")
    try:
        model.towers.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:  # an unknown name, or not in this machine or torch build
        raise InputError(f"device={device!r} is not available: {str(error).partition(chr(10))[0]}") from error
    return model


def _one_node(method: str, nodes: list[str], cells: Iterable[str]) -> str:
    """The message for a call that does not give the cells of exactly one node."""
    got = sorted(cells) or "none"
    return f"{method} takes one node at a time, of {nodes}; got {got}: write {method}({nodes[0]}=[...])"


def cells_of(node: str, modality: Modality, values: Any) -> list[Any]:
    """The cells in what `embed` was given: a list, or a single cell if the modality recognises one.

    Raises:
        InputError: it is neither, or could be either.
    """
    if isinstance(modality, Single):
        try:
            if modality.single(values):
                return [values]
        except BadSample as error:
            raise InputError(f"{node}= {error}") from error
    if hasattr(values, "columns") or hasattr(values, "column_names"):  # iterating over a DataFrame gives column names
        raise InputError(f"{node}= takes one column of cells, got a whole table: write {node}=table['COLUMN']")
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__") or getattr(values, "ndim", 1) == 0:
        raise InputError(f"{node}= takes a list of cells, got one {type(values).__name__}: write {node}=[...]")
    return list(values.to_pylist() if hasattr(values, "to_pylist") else values)  # to Python values, not arrow scalars


def _batches(
    found: Iterable[tuple[int, Any]], size: int, node: str, skipped: dict[int, str] | None
) -> Iterator[dict[int, Sample]]:
    """Yield batches of samples of similar length, by position; samples without a length are batched as they come.

    Raises:
        InputError: a sample cannot be read and `skipped` is None.
    """
    waiting: dict[int, Sample] = {}
    for i, sample in found:
        if isinstance(sample, BadSample):
            if skipped is None:
                raise InputError(f"{node}[{i}]: {sample}")
            skipped[i] = str(sample)
            continue
        waiting[i] = sample
        if len(waiting) == size and not any(map(_length, waiting.values())):  # they sort first anyway
            yield waiting
            waiting = {}
    order = sorted(waiting, key=lambda i: _length(waiting[i]))
    for at in range(0, len(order), size):
        yield {i: waiting[i] for i in order[at : at + size]}


def _length(sample: Any) -> int:
    """The key by which samples are sorted: a one-dimensional sample's length; 0 for pictures."""
    shape = getattr(sample, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) == 1 else 0
    return len(sample) if hasattr(sample, "__len__") else 0
