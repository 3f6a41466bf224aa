"""Every recipe from its command line to its model, on data of a few rows."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import media
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open

import multicl
from multicl import Data, Head, Optim, Train, cli
from multicl.launcher import parse, recipe_class
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.run import Run

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = (
    "simclr", "moco", "instdisc", "swav", "supcon", "semi", "cmc", "cross_view", "simclr_audio", "cola", "cmc_audio",
    "simcse", "clip", "siglip", "clap", "pairs", "simcse_nli", "scored_pairs", "lit", "bind",
)  # fmt: skip


def both(a: str, b: str) -> set[str]:
    """The figures of two nodes."""
    ways = (f"{a}_to_{b}", f"{b}_to_{a}")
    return {f"{w}_{f}" for w in ways for f in ("recall@1", "recall@5", "recall@10", "median_rank", "map@10")} | {
        f"{a}_{b}_gap"
    }


BOTH = both("image", "text")
FIGURES = {
    "simclr": {"knn_200", "linear"},
    "moco": {"knn_200", "linear"},
    "instdisc": {"knn_200", "linear"},
    "supcon": {"knn_200", "linear"},
    "simclr_audio": {"knn_5"},
    "cola": {"knn_5"},
    "cmc_audio": {"knn_5_wave", "knn_5_mel"},
    "siglip": BOTH,
    "swav": {"knn_200", "linear"},
    "semi": {"linear", "classifier"},
    "cmc": {f"{measure}_{nodes}" for measure in ("knn_200", "linear") for nodes in ("l", "ab", "l+ab")},
    "cross_view": both("a", "b"),
    "simcse": {"sts_spearman"},
    "simcse_nli": {"sts_spearman"},
    "scored_pairs": {"sts_spearman"},
    "clip": BOTH,
    "lit": BOTH,
    "bind": BOTH | {f"emergent_{f}" for f in both("image", "audio")} | both("text", "audio"),
    "clap": both("audio", "text"),
    "pairs": both("query", "document"),
}
BASELINES = {
    "simclr": {"knn_200", "linear"},
    "moco": {"knn_200", "linear"},
    "instdisc": {"knn_200", "linear"},
    "supcon": {"knn_200", "linear"},
    "simclr_audio": {"knn_5"},
    "cola": {"knn_5"},
    "cmc_audio": {"knn_5_wave", "knn_5_mel"},
    "siglip": set[str](),
    "swav": {"knn_200", "linear"},
    "semi": {"linear"},
    "cmc": {"knn_200_l+ab", "linear_l+ab"},
    "cross_view": both("a", "b"),
    "simcse": {"sts_spearman"},
    "simcse_nli": {"sts_spearman"},
    "scored_pairs": {"sts_spearman"},
    "clip": set[str](),
    "lit": set[str](),
    "bind": set[str](),
    "clap": set[str](),
    "pairs": set[str](),
}
NODES = {
    "simclr": ["image"],
    "moco": ["image"],
    "instdisc": ["image"],
    "supcon": ["image"],
    "simclr_audio": ["audio"],
    "cola": ["audio"],
    "cmc_audio": ["wave", "mel"],
    "siglip": ["image", "text"],
    "swav": ["image"],
    "semi": ["image"],
    "cmc": ["l", "ab"],
    "cross_view": ["a", "b"],
    "simcse": ["text"],
    "simcse_nli": ["anchor", "positive", "negative"],
    "scored_pairs": ["sentence1", "sentence2"],
    "clip": ["image", "text"],
    "lit": ["image", "text"],
    "bind": ["image", "text", "audio"],
    "clap": ["audio", "text"],
    "pairs": ["query", "document"],
}
BESIDE = {"recipe", "untrained", "baseline", "intervals", "steps", "skipped", "seconds"}


@dataclass(frozen=True)
class Finished:
    """A recipe that has run."""

    name: str
    folder: Path
    launched: Any

    @property
    def figures(self) -> dict[str, float]:
        return {name: value for name, value in self.launched.result.items() if name not in BESIDE}


@pytest.fixture(scope="module", params=NAMES)
def finished(request: pytest.FixtureRequest, launched: Any, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Each recipe's run, in turn."""
    folder = tmp_path_factory.mktemp("runs") / request.param
    flags = ("--train.log-every", "1", "--train.checkpoint-every", "2")
    return Finished(request.param, folder, launched(request.param, "--run", str(folder), *flags))


def test_the_last_line_has_the_figures_before_and_after(finished: Finished) -> None:
    result = finished.launched.result
    assert result["recipe"] == finished.name
    assert finished.figures.keys() == result["untrained"].keys() == FIGURES[finished.name]
    assert result["baseline"].keys() == BASELINES[finished.name]
    low = -1 if finished.name.startswith(("simcse", "scored")) else 0
    for values in (finished.figures, result["untrained"], result["baseline"]):
        tops = {"median_rank": 12, "_gap": 2}
        for name, value in values.items():
            assert isinstance(value, float)
            assert low <= value <= next((top for end, top in tops.items() if name.endswith(end)), 1)
    assert (result["steps"], result["skipped"]) == (4, 0)
    assert result["seconds"] > 0
    for words in ("untrained", "trained", *FIGURES[finished.name]):
        assert words in finished.launched.out  # the table that stands before it


def test_a_run_folder_holds_all_that_it_should(finished: Finished) -> None:
    files = {str(path.relative_to(finished.folder)) for path in finished.folder.rglob("*") if path.is_file()}
    assert {"recipe.yaml", "metrics.jsonl", "result.json", "model/config.json", "model/model.safetensors"} <= files
    assert {path.name for path in (finished.folder / "checkpoints").iterdir()} == {"step-2", "step-4"}
    assert json.loads((finished.folder / "result.json").read_text()) == finished.launched.result
    rows = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["loss"] > 0 and len(str(row["loss"])) > 8 for row in rows)  # at full precision
    card = (finished.folder / "model" / "README.md").read_text()
    assert all(f"| {name} | {value:.4g} |" in card for name, value in finished.figures.items())
    assert not {name for name in files if name.endswith((".pt", ".pth", ".bin", ".pkl"))}


def test_eval_gives_the_figures_again(finished: Finished, call: Any) -> None:
    found = call(lambda: cli.main(["eval", str(finished.folder)])).result
    assert {
        name: value for name, value in found.items() if name not in ("run", "space", "intervals")
    } == finished.figures


def test_embed_writes_what_the_loaded_model_gives(finished: Finished, data: Path, tmp_path: Path, call: Any) -> None:
    out = tmp_path / "vectors.parquet"
    words = ["embed", str(finished.folder), "--data", f"{data}/test.parquet", "--out", str(out)]
    reads = {
        "pairs": ["query=text", "document=text"],
        "simcse_nli": ["anchor=text", "positive=text"],
        "scored_pairs": ["sentence1=text", "sentence2=text"],
        "cross_view": ["a=image", "b=image"],
    }
    if finished.name in reads:
        words += ["--columns", *reads[finished.name]]
    said = call(lambda: cli.main(words))
    assert said.code == 0, said.err
    model, table = multicl.load(finished.folder, device="cpu"), pq.read_table(out)
    assert model.nodes == NODES[finished.name]
    assert table.column("row").to_pylist() == list(range(12))
    columns = (
        {"wave": "audio", "mel": "audio"}
        | dict.fromkeys(("l", "ab", "a", "b"), "image")
        | dict.fromkeys(("query", "document", "anchor", "positive", "sentence1", "sentence2"), "text")
    )
    for node in model.nodes:
        vectors = torch.tensor(table.column(f"{node}_vector").to_pylist())
        cells = [row[columns.get(node, node)] for row in media.rows(12, seed=1)]
        assert torch.equal(vectors, model.embed_node(node, cells))
        assert torch.allclose(vectors.norm(dim=1), torch.ones(12), atol=1e-5)
        assert len(torch.unique(vectors, dim=0)) > 1
    if finished.name not in ("cmc", "cmc_audio"):  # their column is read by nodes of other names
        assert table.column("label").to_pylist() == [i % 8 for i in range(12)]


def test_a_finished_run_that_is_resumed_repeats_its_figures(finished: Finished, launched: Any) -> None:
    weights = (finished.folder / "model" / "model.safetensors").read_bytes()
    flags = ("--train.log-every", "1", "--train.checkpoint-every", "2")
    again = launched(finished.name, "--run", str(finished.folder), *flags, "--resume", "auto")
    assert {**again.result, "seconds": 0} == {**finished.launched.result, "seconds": 0}
    assert (finished.folder / "model" / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize("name", ["clip", "clap"])
def test_training_teaches_what_is_named(name: str, launched: Any, tmp_path: Path) -> None:
    words = ["--text.encoder", "words", "--text.width", "64"]
    result = launched(name, "--run", str(tmp_path / "run"), *words, "--train.steps", "12").result
    for figure in FIGURES[name]:
        if not figure.endswith(("_gap", "median_rank")):
            assert result[figure] >= result["untrained"][figure]
        if figure.endswith("@1"):
            assert result[figure] > 0.3 > result["untrained"][figure]  # chance: 1 / 12


@pytest.mark.parametrize("words", ["--method self-supervised", "--method supervised", "--ids"])
def test_semi_and_what_it_is_compared_with(words: str, launched: Any, tmp_path: Path) -> None:
    result = launched("semi", "--run", str(tmp_path / "run"), *words.split(), "--train.steps", "12").result
    assert ("classifier" in result) == ("self-supervised" not in words)
    best = result.get("classifier", result["linear"])
    assert best > result["untrained"].get("classifier", 0.0)
    assert best > 0.3  # chance: 1 / 8


def test_cmc_trains_with_banks_as_its_paper_does(launched: Any, tmp_path: Path) -> None:
    flags = ("--nce", "--instances.negatives", "64", "--head.layers", "2", "--head.norm", "batch")
    result = launched("cmc", "--run", str(tmp_path / "run"), "--train.checkpoint-every", "4", *flags).result
    assert result.keys() >= FIGURES["cmc"]
    with safe_open(tmp_path / "run" / "checkpoints" / "step-4" / "state.safetensors", "pt") as kept:
        seen = {node: int(kept.get_tensor(f"kept:bank:l-ab:{node}:seen").sum()) for node in ("l", "ab")}
    assert seen == {"l": 32, "ab": 32}


def test_moco_v3_trains_with_the_papers_loss(launched: Any, tmp_path: Path, recipe_of: Any) -> None:
    flags = ["--version", "v3", "--hidden", "16", "--objective.temperature", "0.2", "--head.norm", "batch"]
    run = tmp_path / "run"
    launched("moco", "--run", str(run), *flags, "--train.log-every", "1", "--train.checkpoint-every", "4")
    with safe_open(run / "checkpoints" / "step-4" / "state.safetensors", "pt") as kept:
        momentum = [name for name in kept.keys() if name.startswith("kept:momentum:")]  # noqa: SIM118
    assert momentum
    assert not [name for name in momentum if "predictor" in name]
    (pair,) = parse(recipe_of("moco"), flags).terms()
    assert pair.queue == 0
    found = []
    for call in pair.calls:
        assert call.momentum
        found.append(pair.weight * call.weight)
    assert found == pytest.approx([2 * 0.2, 2 * 0.2])  # 2 T (ctr(q1, k2) + ctr(q2, k1))


class Knows:
    """A model that knows of every cell what it is about: the word that its name or text ends with."""

    def embed_node(self, node: str, cells: Any, skipped: dict[int, str]) -> torch.Tensor:
        words = [Path(cell).stem.split()[-1] for cell in cells]
        return torch.tensor([[float(word == other) for other in ("red", "green", "blue")] for word in words])


@pytest.mark.parametrize(
    ("name", "a", "b"), [("clip", "image", "text"), ("clap", "audio", "text"), ("pairs", "query", "document")]
)
def test_rows_of_one_file_or_text_are_all_right_to_find(
    name: str, a: str, b: str, recipe_of: Any, tmp_path: Path
) -> None:
    (tmp_path / "train.csv").write_text("first,second\nx,y\n")
    rows = [f"{word},{said} {word}\n" for word in ("red", "green", "blue") for said in ("a", "the")]
    (tmp_path / "test.csv").write_text("".join(["first,second\n", *rows]))
    for word in ("red", "green", "blue"):
        (tmp_path / word).write_bytes(word.encode())
    data = Data(path=str(tmp_path), columns={a: "first", b: "second"})
    figures = recipe_of(name)(data=data).measure(Knows())
    assert {figures[f"{way}_recall@1"] for way in (f"{a}_to_{b}", f"{b}_to_{a}")} == {1.0}


def test_pairs_at_several_widths(launched: Any, tmp_path: Path) -> None:
    flags = ["--matryoshka", "2", "8", "--head.dim", "16", "--negatives", "hardest"]
    result = launched("pairs", "--run", str(tmp_path / "run"), *flags).result
    assert {f"query_to_document_recall@1_of_{width}" for width in (2, 8)} <= result.keys()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"query-document/loss_2", "query-document/loss_8", "query-document/loss_16"} <= rows[-1].keys()


CMC = [
    ("--views Y CbCr", ["y-cbcr"], 1),
    ("--crossed", ["l-ab"], 2),
    ("--views L a b", ["l-a", "l-b", "a-b"], 1),
    ("--views L a b --graph core", ["l-a", "l-b"], 1),
    ("--views rgb L CbCr --graph core --crossed", ["rgb-l", "rgb-cbcr"], 2),
]


@pytest.mark.parametrize(("words", "pairs", "calls"), CMC)
def test_cmc_of_other_views(
    words: str, pairs: list[str], calls: int, launched: Any, tmp_path: Path, recipe_of: Any
) -> None:
    terms = parse(recipe_of("cmc"), words.split()).terms()
    assert [term.name for term in terms] == pairs
    assert {len(term.calls) for term in terms} == {calls}
    result = launched("cmc", "--run", str(tmp_path / "run"), *words.split(), "--train.steps", "2").result
    nodes = list(dict.fromkeys(node for name in pairs for node in name.split("-")))
    assert result.keys() >= {f"{m}_{of}" for m in ("knn_200", "linear") for of in (*nodes, "+".join(nodes))}


def test_cmc_audio_hears_two_views_made_once_for_both(recipe_of: Any) -> None:
    recipe = recipe_of("cmc_audio")()
    (pair,), (wave, mel) = recipe.terms(), recipe.modalities().values()
    assert (pair.name, pair.crossed, len(pair.calls)) == ("wave-mel", True, 2)
    assert (wave.column, wave.source, wave.input) == (mel.column, mel.source, "wave")
    assert recipe.optim.tower_lr["mel"] < 1


@pytest.mark.parametrize("two_towers", [False, True])
def test_cross_view_of_two_columns_of_sounds(two_towers: bool, launched: Any, tmp_path: Path) -> None:
    flags = ["--sounds", "--data.columns", "a", "audio", "b", "audio", "--audio.rate", "8000"]
    flags += ["--two-towers"] if two_towers else []
    result = launched("cross_view", "--run", str(tmp_path / "run"), *flags).result
    assert result["baseline"].keys() == result["untrained"].keys() == both("a", "b")
    assert result["baseline"]["a_to_b_recall@1"] == 1.0  # one column twice: log-mels find themselves
    model = multicl.load(tmp_path / "run", device="cpu")
    a, b = (model.embed_node(node, [media.wav(0)]) for node in ("a", "b"))
    assert torch.equal(a, b) != two_towers


def test_eval_asks_bind_for_pairs_by_name(launched: Any, tmp_path: Path, call: Any) -> None:
    result = launched("bind", "--run", str(tmp_path / "run")).result
    words = ["eval", str(tmp_path / "run"), "--pairs", "audio-image", "image-text", "--ids", "text"]
    found = call(lambda: cli.main(words)).result
    assert found.keys() == both("audio", "image") | both("image", "text") | {"run", "space", "intervals"}
    for name in both("image", "audio") - {"image_audio_gap"}:
        assert found[name] == result[f"emergent_{name}"]
    refused = call(lambda: cli.main([*words[:2], "--pairs", "image-sound"]))
    assert "'image-sound' does not name two nodes" in refused.refusal


FLAGS = {
    "--run": ("DIR", Path("DIR"), lambda r: r.run),
    "--resume": ("auto", "auto", lambda r: r.resume),
    "--data.path": ("some.parquet", "some.parquet", lambda r: r.data.path),
    "--data.columns": ("image img text caption", {"image": "img", "text": "caption"}, lambda r: r.data.columns),
    "--train.steps": ("7", 7, lambda r: r.train.steps),
    "--train.epochs": ("1.5", 1.5, lambda r: r.train.epochs),
    "--train.batch-size": ("48", 48, lambda r: r.train.batch_size),
    "--train.lr": ("2e-4", 2e-4, lambda r: r.train.lr),
    "--train.checkpoint-every": ("11", 11, lambda r: r.train.checkpoint_every),
    "--train.seed": ("5", 5, lambda r: r.train.seed),
    "--train.mixed-precision": ("bf16", "bf16", lambda r: r.train.mixed_precision),
}


@pytest.mark.parametrize("name", [*NAMES, "codes"])
def test_every_recipe_understands_the_same_flags(name: str, recipe_of: Callable[[str], type[Run]]) -> None:
    everything = [word for flag, (words, _, _) in FLAGS.items() for word in (flag, *words.split())]
    settings = parse(recipe_of(name), everything)
    assert [get(settings) for _, _, get in FLAGS.values()] == [value for _, value, _ in FLAGS.values()]


@pytest.mark.parametrize("flag", FLAGS)
def test_each_flag_needs_no_other(flag: str, recipe_of: Callable[[str], type[Run]]) -> None:
    words, value, get = FLAGS[flag]
    assert get(parse(recipe_of("clip"), [flag, *words.split()])) == value


@pytest.mark.parametrize("name", ["simclr", "instdisc"])
def test_pictures_without_labels_are_measured_by_their_views(
    name: str, launched: Any, data: Path, tmp_path: Path
) -> None:
    for split in ("train", "test"):
        table = pq.read_table(data / f"{split}.parquet", columns=["image"])
        pq.write_table(table, tmp_path / f"{split}.parquet")
    assert "--label None" in launched(name, "--run", str(tmp_path / "a"), path=tmp_path).refusal
    result = launched(name, "--label", "None", "--run", str(tmp_path / "b"), path=tmp_path).result
    figures = {"image_view_recall@1", "image_view_recall@10"}
    assert set(result["baseline"]) == figures
    assert figures <= set(result)


@pytest.mark.parametrize("name", ["simclr", "clip"])
def test_a_recorded_mapping_of_columns_can_be_replaced(
    name: str, recipe_of: Callable[[str], type[Run]], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(f"recipe: {name}\ndata: {{columns: {{image: img}}}}\n")
    words = ["--config", str(tmp_path / "recipe.yaml"), "--data.columns", "image", "photo", "label", "kind"]
    settings = parse(recipe_of(name), words)
    assert settings.data.columns == {"image": "photo", "label": "kind"}


def header(name: str) -> str:
    found = ast.get_docstring(ast.parse((RECIPES / f"{name}.py").read_text(encoding="utf-8")))
    assert found is not None
    return found


def commands(name: str) -> list[list[str]]:
    """The command lines of a recipe's header, from the recipe's file on."""
    lines = [line.strip() for line in header(name).replace("\\\n", " ").splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if re.match(r"(python|accelerate launch) ", line)]
    return [words[words.index(f"recipes/{name}.py") + 1 :] for words in found]


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_short_and_its_header_says_how_to_launch_it(
    name: str, recipe_of: Callable[[str], type[Run]], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # a flag's words then stand below it
    assert len((RECIPES / f"{name}.py").read_text(encoding="utf-8").splitlines()) <= 80
    first, _, rest = header(name).partition("\n")
    method = {"bind": "ImageBind"}.get(name, name.partition("_")[0])
    assert re.match(rf"{method}\b.* \(arXiv:\d{{4}}\.\d{{5}}.*\).*: ", first, re.IGNORECASE)
    assert f"recipes/{name}.py" in rest
    said = call(lambda: parse(recipe_of(name), ["--help"]))
    assert said.code == 0
    shown, _, options = said.out.partition("usage:")
    assert shown.startswith(header(name))
    assert all(flag in options for flag in FLAGS if flag != "--data.columns")
    assert "--data.columns" in options
    assert not re.findall(r"^[│ ]{0,3}(--[a-z].*)\n(?:[│ ]{0,3}--[a-z]|[│ ]*\(default)", options, re.M), "without words"


@pytest.mark.parametrize("settings", [Data, Train, Optim, Head, Image, Text, Audio])
def test_every_setting_says_what_it_is(settings: type) -> None:
    (found,) = ast.parse(inspect.getsource(settings)).body
    for setting, words in pairwise(found.body):
        name = getattr(getattr(setting, "target", None), "id", None)
        if name not in (None, "_", "strong", "weak", "local"):  # of views their own classes say it
            assert isinstance(words, ast.Expr), name


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_header_work(name: str, recipe_of: Callable[[str], type[Run]]) -> None:
    lines = commands(name)
    assert lines
    for words in lines:
        if "--from" in words:  # no hub here
            continue
        settings = parse(recipe_of(name), words)
        assert settings.data.path is not None or name == "bind"
        for modality in settings.modalities().values():
            if "/" not in modality.encoder and "bert" not in modality.encoder:  # no hub here
                assert modality.build(weights=False).width > 0


def test_the_readmes_change_of_simclr_makes_supcon_of_it(tmp_path: Path) -> None:
    text = (RECIPES / "simclr.py").read_text(encoding="utf-8")
    readme = (RECIPES.parent / "README.md").read_text(encoding="utf-8")
    lines = re.search(r"```diff\n(.*?)```", readme, re.DOTALL)[1].splitlines()  # type: ignore[index]
    for old, new in zip(lines[::2], lines[1::2], strict=True):
        assert (old[0], new[0]) == ("-", "+")
        assert text.count(f"{old[1:]}\n") == 1
        text = text.replace(f"{old[1:]}\n", f"{new[1:]}\n")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    (pair,) = recipe_class(str(tmp_path / "mine.py"))().terms()
    assert isinstance(pair, multicl.Pair)
    assert (pair.ids, pair.objective) == ("label", multicl.SupCon(0.1))


def test_the_demo_searches_with_the_run_that_is_named_in_either_spelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from multicl.recipes import _codes_page, codes

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_codes_page, "search", lambda *_: {})
    monkeypatch.setattr("multicl.load", lambda run: run)
    for run in ("runs/codes-1", "runs/codes-2", "mine"):
        (tmp_path / run / "model").mkdir(parents=True)
        (tmp_path / run / "model" / "config.json").touch()
    (tmp_path / "my.wav").touch()
    for given, run in (([], "runs/codes-2"), (["--run", "mine"], "mine"), (["--run=mine"], "mine")):
        codes.main(["--say", "my.wav", *given])
        assert f"searching with {run}\n" in capsys.readouterr().out
