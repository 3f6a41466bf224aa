from __future__ import annotations

from pathlib import Path

import pytest
import torch

from multicl.evaluation import class_vectors, filled, zero_shot
from multicl.types import InputError


def test_prompts_and_their_means_are_those_of_plain_loops() -> None:
    names, templates = ["cat", "dog", "hen"], ["a {}", "the {}."]
    assert filled(names, templates) == ["a cat", "the cat.", "a dog", "the dog.", "a hen", "the hen."]
    g = torch.Generator().manual_seed(0)
    prompts, queries = torch.randn(6, 5, generator=g), torch.randn(40, 5, generator=g)
    vectors = class_vectors(prompts, 3)
    for c in range(3):
        mean = sum(p / p.norm() for p in prompts[2 * c : 2 * c + 2]) / 2
        torch.testing.assert_close(vectors[c], mean / mean.norm())
    truth = [i % 3 for i in range(40)]
    found = zero_shot(queries, vectors, truth, ks=(1, 2, 5))
    right = {1: 0, 2: 0}
    each: dict[int, list[bool]] = {0: [], 1: [], 2: []}
    for q, t in zip(queries, truth, strict=True):
        order = sorted(range(3), key=lambda c: -float(torch.cosine_similarity(q, vectors[c], dim=0)))
        for k in right:
            right[k] += t in order[:k]
        each[t].append(order[0] == t)
    assert found["accuracy@1"] == pytest.approx(right[1] / 40)
    assert found["accuracy@2"] == pytest.approx(right[2] / 40)
    assert found["mean_recall"] == pytest.approx(sum(sum(e) / len(e) for e in each.values()) / 3)
    assert "accuracy@5" not in found


def test_templates_may_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "templates.txt"
    path.write_text("\ufeffa photo of a {}.\n\n  graffiti of a {}.  \n", encoding="utf-8")
    assert filled(["cat"], ["the {}", str(path)]) == ["the cat", "a photo of a cat.", "graffiti of a cat."]
    path.write_text("\n")
    with pytest.raises(InputError, match="needs class names and templates"):
        filled(["cat"], [str(path)])
    with pytest.raises(InputError, match=r"absent\.txt cannot be read: .*No such file"):
        filled(["cat"], [str(tmp_path / "absent.txt")])


def test_a_collapsed_model_is_never_right() -> None:
    assert zero_shot(torch.ones(6, 4), torch.ones(3, 4), [0, 1, 2, 0, 1, 2])["accuracy@1"] == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: filled(["a"], ["no place"]), "a template needs exactly one {}, for the class name, got 'no place'"),
        (lambda: filled([], ["{}"]), "needs class names"),
        (lambda: class_vectors(torch.ones(5, 2), 2), "5 prompts cannot be divided evenly among 2 classes"),
        (lambda: zero_shot(torch.ones(2, 2), torch.eye(2), [0, 2]), r"truth must be in \[0, 2\), got 0 to 2"),
        (lambda: zero_shot(torch.ones(2, 2), torch.eye(2), [0]), "truth has 1 entries for 2 queries"),
    ],
)
def test_bad_input_is_named(call, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        call()
