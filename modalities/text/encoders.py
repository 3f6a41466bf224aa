"""Encoders of text: Batch(ids [B, T], mask [B, T]) -> [B, W] float32.

Padding never changes a row's result: a model that padding affects is refused, unless all rows are filled to one length.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multicl.modalities import lora, pretrained
from multicl.modalities.probing import probing
from multicl.modalities.text import sentence, tokens
from multicl.modalities.text.pretrained import check_padding, load, set_dropout
from multicl.types import Batch, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from multicl.modalities.text.settings import Text

log = logging.getLogger(__name__)

LAYERS = {"first_last": 0, "top2": -2}
"""Poolings over the last layer and another -> the other's index in `hidden_states`; 0 is the embeddings."""
GROUP = 32
"""Rows with which a CPU reaches full speed."""
WORTH = 0.8
"""Rows are encoded in groups if these have at most this share of the batch's positions, padding included."""


def build(settings: Text, weights: bool) -> nn.Module:
    """The encoder that the settings name.

    Args:
        weights: load those of a pretrained model, if the settings ask for them.

    Raises:
        InputError: an encoder that cannot be loaded or does not fit the settings.
    """
    pooling: str = settings.pooling or "mean"
    if not isinstance(settings.encoder, str):
        return OwnEncoder(settings.encoder, pooling, settings.dropout, settings.max_tokens)
    dropout = 0.1 if settings.dropout is None else settings.dropout
    if settings.encoder == "words":
        return WordEncoder(settings.width, dropout)
    if settings.encoder == "small":
        return TransformerEncoder(lora.adapted(_small(settings, dropout), settings.lora, "text"), pooling)
    pooling = settings.pooling or sentence.pooling_of(settings.encoder) or pooling
    if weights and not settings.prompt and (prompt := sentence.prompt_of(settings.encoder)):
        log.warning("text encoder %r: its files put %r before every text: set it as prompt=", settings.encoder, prompt)
    model = load(settings, pooling, weights and settings.pretrained)
    if weights and not settings.fill:
        tokenizer = tokens.tokenizer(settings.encoder, settings.max_tokens)
        check_padding(TransformerEncoder(model, pooling), tokenizer, settings.encoder)
    return TransformerEncoder(lora.adapted(model, settings.lora, "text"), pooling)


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """[B, T, W] states of any dtype and [B, T] mask -> [B, W] float32: the first token, the last, or all valid ones."""
    if pooling == "cls":
        return states[:, 0].float()
    if pooling == "last":
        at = mask.long().sum(1) - 1
        return states[torch.arange(len(states), device=states.device), at].float()
    valid = mask[..., None].to(torch.float32)
    return (states.float() * valid).sum(1) / valid.sum(1).clamp(min=1)


class TransformerEncoder(nn.Module):
    """A Hugging Face encoder with a pooling."""

    def __init__(self, model: PreTrainedModel, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        projects = pooling == "pooler" and hasattr(model.config, "projection_size")  # SigLIP, to the width of pictures
        self.width = int(model.config.projection_size if projects else model.config.hidden_size)

    def forward(self, batch: Batch) -> Tensor:
        """-> [B, width] float32. On a CPU, rows of similar length are grouped if that saves enough padding."""
        ids, mask, lengths = batch.get("ids"), batch.get("mask"), batch.lengths
        if lengths is None or batch.device.type != "cpu" or len(batch) < 2 * GROUP:
            return self.pooled(ids, mask)
        order = lengths.argsort(stable=True)
        groups = order.tensor_split(len(order) // GROUP)
        longest = [int(lengths[group[-1]]) for group in groups]
        if sum(len(g) * n for g, n in zip(groups, longest, strict=True)) > WORTH * ids.numel():
            return self.pooled(ids, mask)
        parts = [self.pooled(ids[g, :n], mask[g, :n]) for g, n in zip(groups, longest, strict=True)]
        return torch.cat(parts)[order.argsort()]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute layers in backward. ValueError: the model does not support it."""
        pretrained.recompute(self.model, enable)

    def pooled(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B, T] int64 ids and [B, T] mask -> [B, width] float32."""
        both = self.pooling in LAYERS
        out = self.model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=both)
        if self.pooling == "pooler":
            pooled: Tensor = out.pooler_output
            return pooled.float()
        states = out.last_hidden_state  # [B, T, W]
        if both:
            states = (out.hidden_states[LAYERS[self.pooling]].float() + states.float()) / 2
        return pool(states, mask, self.pooling)


class WordEncoder(nn.Module):
    """Mean of the embeddings of hashed words and their parts, then an MLP: good on little data, fast on a CPU.

    Dropout drops whole tokens, and units of the MLP. Deep averaging networks (Iyyer et al., ACL 2015).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.dropout = dropout
        inner = width // 2  # the table is nearly all of the parameters
        self.embed = nn.EmbeddingBag(tokens.BUCKETS, inner, mode="mean", padding_idx=0)
        self.mlp = nn.Sequential(
            nn.LayerNorm(inner),
            nn.Linear(inner, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        nn.init.normal_(self.embed.weight, std=inner**-0.5)
        with torch.no_grad():
            self.embed.weight[0] = 0

    def forward(self, batch: Batch) -> Tensor:
        """-> [B, width] float32."""
        ids, mask = batch.get("ids"), batch.get("mask")
        kept = F.dropout(mask.float(), self.dropout, self.training) > 0
        mean = self.embed(ids.masked_fill(~kept, 0))  # [B, width / 2]; padding is left out
        h: Tensor = self.mlp(mean)
        return h.float()


class OwnEncoder(nn.Module):
    """The user's module, called with byte `ids` [B, T] int64 and `mask` [B, T] bool -> [B, W] or [B, T, W]."""

    def __init__(self, module: nn.Module, pooling: str, dropout: float | None, max_tokens: int) -> None:
        super().__init__()
        self.module = module
        self.pooling = pooling
        if dropout is not None:
            set_dropout(module, dropout)
        self.width = self._probe(max_tokens)

    def forward(self, batch: Batch) -> Tensor:
        """-> [B, width] float32."""
        mask = batch.get("mask")
        out = self.module(batch.get("ids"), mask)
        if not isinstance(out, Tensor) or out.ndim not in (2, 3) or out.shape[0] != len(batch):
            given = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"your text encoder {type(self.module).__name__} returned {given} for (ids, mask) of "
                f"{list(mask.shape)}: it must return a tensor [B, W] or [B, T, W]"
            )
        return out.float() if out.ndim == 2 else pool(out, mask, self.pooling)

    def _probe(self, length: int) -> int:
        """Its width, measured on one row of maximum length, so that errors show here and not in mid-run."""
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        ids = torch.full((1, length), tokens.BYTES - 1, device=device)
        batch = Batch({"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)})
        try:
            with probing(self.module):
                return int(self(batch).shape[1])
        except InputError:
            raise
        except Exception as error:  # the user's code, which may raise anything
            raise InputError(
                f"your text encoder {type(self.module).__name__} fails on (ids, mask) of [1, {length}], with ids in "
                f"[0, {tokens.BYTES}): {type(error).__name__}: {error}"
            ) from error


def _small(settings: Text, dropout: float) -> PreTrainedModel:
    """A small BERT over bytes, with random weights and no pooler."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=tokens.BYTES,
        hidden_size=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=4 * settings.width,
        max_position_embeddings=settings.max_tokens,
        type_vocab_size=1,
        pad_token_id=0,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    config._attn_implementation = "sdpa"
    return BertModel(config, add_pooling_layer=False)
