"""Loading of Hugging Face text encoders, and checks of their tokenizer and settings before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from multicl.modalities import pretrained
from multicl.modalities.probing import probing
from multicl.modalities.text import hub, tokens
from multicl.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from multicl.modalities.text.encoders import TransformerEncoder
    from multicl.modalities.text.settings import Text

DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout", "dropout"),
    *("dropout_rate", "dropout_prob", "embd_pdrop", "resid_pdrop", "attn_pdrop", "embedding_dropout", "mlp_dropout"),
)
"""Keys of hidden and attention dropout in transformers' configs."""
PADDING = 1e-3
"""Relative difference, by norm, that padding may make to a vector: rounding, and no more."""


def load(settings: Text, pooling: str, weights: bool) -> PreTrainedModel:
    """The encoder of `settings.encoder`, a name or a folder, in training mode.

    Args:
        pooling: unless it is "pooler", the model's pooler is removed.
        weights: load them; otherwise the architecture has random weights.

    Raises:
        InputError: no such model, one that does not read text, or one that does not fit its files, its tokenizer or the
            settings.
    """
    name = settings.encoder
    assert isinstance(name, str)
    tokenizer = tokens.tokenizer(name, settings.max_tokens)
    assert isinstance(tokenizer, tokens.HubTokenizer)
    if pooling == "cls" and not tokenizer.leads_with_cls:
        raise InputError(
            f"text setting pooling={pooling!r}: the tokenizer of {name!r} puts no [CLS] token first; give "
            "pooling='mean'"
        )
    config = hub.load_config(name)
    pretrained.without_layerdrop(config, f"text encoder {name!r}")
    if settings.dropout is not None:
        for key in DROPOUTS:
            if hasattr(config, key):
                setattr(config, key, float(settings.dropout))
    model, absent = hub.build_model(name, config, weights)
    if config.is_encoder_decoder or (hasattr(model, "encoder") and hasattr(model, "decoder")):
        model = model.get_encoder()
        model.config.is_encoder_decoder = True  # files of an encoder alone (T5EncoderModel's) say False
    if pooling == "pooler" and not _pools(model, tokenizer):
        raise InputError(f"text setting pooling='pooler': encoder {name!r} has no pooler; give pooling='cls'")
    if pooling != "pooler" and getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)  # its weights would get no gradient
    if lost := [key for key, p in model.named_parameters() if id(p) in absent]:
        raise InputError(
            f"the weights of text encoder {name!r} lack {len(lost)} tensors of its architecture, such as {lost[0]!r}: "
            "give another checkpoint, or pretrained=False to start from random weights"
        )
    if settings.dropout is not None:
        set_dropout(model, settings.dropout)
    _check_fits(model, tokenizer, name)
    model.train()  # as any new module; transformers loads in eval mode, without dropout
    return model


def check_padding(encoder: TransformerEncoder, tokenizer: tokens.Tokenizer, name: str) -> None:
    """Check that a short text gets the same vector alone and in a batch with a longer text.

    Raises:
        InputError: it does not.
    """
    texts = [torch.as_tensor(tokenizer(text), dtype=torch.int64) for text in ("a", "a text of some more words")]
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in texts])
    with probing(encoder):
        alone, beside = encoder.pooled(texts[0][None], mask[:1, : len(texts[0])])[0], encoder.pooled(ids, mask)[0]
    if (alone - beside).norm() > PADDING * alone.norm():
        raise InputError(
            f"text encoder {name!r}: a text's vector depends on how far the batch is padded; give fill=True "
            "(--text.fill), which pads every text to max_tokens"
        )


def set_dropout(module: nn.Module, dropout: float) -> None:
    """Set the probability of every dropout layer of a module, in place."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = float(dropout)


def _pools(model: PreTrainedModel, tokenizer: tokens.HubTokenizer) -> bool:
    """Whether a model gives a pooled output: from a pooler of its first token, or as CLIP and SigLIP do.

    Raises:
        InputError: the pooler would read another token than [CLS], for which it was made.
    """
    if getattr(model, "pooler", None) is not None:
        if not tokenizer.leads_with_cls:
            raise InputError(
                f"text setting pooling='pooler': the tokenizer of {tokenizer.name!r} puts no [CLS] token first; give "
                "pooling='mean'"
            )
        return True
    with torch.no_grad():
        out = model(input_ids=torch.as_tensor(tokenizer("a"), dtype=torch.int64)[None])
    return getattr(out, "pooler_output", None) is not None


def _check_fits(model: PreTrainedModel, tokenizer: tokens.HubTokenizer, name: str) -> None:
    """Check that ids and positions fit the model's tables: a GPU would only report a 'device-side assert'."""
    if model.main_input_name != "input_ids":
        raise InputError(f"text encoder {name!r} reads {model.main_input_name}, not text. {hub.KINDS}")
    table: Any = model.get_input_embeddings()
    rows = int(table.weight.shape[0])
    if len(tokenizer.inner) > rows:
        raise InputError(
            f"text encoder {name!r} has {rows} embeddings, but its tokenizer has {len(tokenizer.inner)} tokens: they "
            "do not belong together"
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    if positions is None or positions < 1:  # XLNet's -1: no limit
        return
    for part in model.modules():  # RoBERTa's positions start after its padding index
        if isinstance(part, nn.Embedding) and part is not table and part.num_embeddings == positions:
            positions -= 0 if part.padding_idx is None else part.padding_idx + 1
            break
    if tokenizer.limit > positions:
        raise InputError(
            f"text setting max_tokens={tokenizer.limit}: encoder {name!r} has {positions} positions; give "
            f"max_tokens={positions} or less"
        )
