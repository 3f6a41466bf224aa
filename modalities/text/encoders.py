"""Encoders of text: Batch(ids [B, T], mask [B, T]) -> [B, W] float32.

Padding never changes a row's result: a model that feels it is refused, unless all rows are filled to one length.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multicl.modalities import lora, pretrained
from multicl.modalities.probing import probing
from multicl.modalities.text import hub, sentence, tokens
from multicl.types import Batch, InputError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from multicl.modalities.text.settings import Text

log = logging.getLogger(__name__)

DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "hidden_dropout", "attention_dropout", "dropout"),
    *("dropout_rate", "dropout_prob", "embd_pdrop", "resid_pdrop", "attn_pdrop", "embedding_dropout", "mlp_dropout"),
)
"""Names under which transformers' configs keep hidden and attention dropout."""
LAYERS = {"first_last": 0, "top2": -2}
"""Poolings of two layers: the one beside the last, of which 0 is the embeddings."""
GROUP = 32
"""Rows that are enough for a CPU to compute at full speed."""
WORTH = 0.8
"""Share of a padded batch that is left without most of its padding, below which its rows are taken in groups."""
PADDING = 1e-3
"""Share of its norm by which a vector may differ for padding: rounding, and no more."""
LAYERDROPS = ("layerdrop", "layer_drop", "encoder_layerdrop")


def build(settings: Text, weights: bool) -> nn.Module:
    """The encoder that the settings name."""
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
        log.warning(
            "text encoder %r: its files have it read %r before every text: give prompt=", settings.encoder, prompt
        )
    model = _from_hub(settings, pooling, weights and settings.pretrained)
    if weights and not settings.fill:
        tokenizer = tokens.tokenizer(settings.encoder, settings.max_tokens)
        _check_padding(TransformerEncoder(model, pooling), tokenizer, settings.encoder)
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
    """A Hugging Face encoder under a pooling."""

    def __init__(self, model: PreTrainedModel, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling
        projects = pooling == "pooler" and hasattr(model.config, "projection_size")  # SigLIP, to the width of pictures
        self.width = int(model.config.projection_size if projects else model.config.hidden_size)

    def forward(self, batch: Batch) -> Tensor:
        """-> [B, width] float32. On a CPU, rows of about one length go together, where that saves padding."""
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
        """Compute layers again for backward. ValueError: the model cannot."""
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
    """Mean of the embeddings of hashed words and their parts, then an MLP: strong on little data, fast on a CPU.

    Dropout leaves out whole tokens, and units of the MLP. Deep averaging networks (Iyyer et al., ACL 2015).
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
        mean = self.embed(ids.masked_fill(~kept, 0))  # [B, width / 2]; padding takes no part
        h: Tensor = self.mlp(mean)
        return h.float()


class OwnEncoder(nn.Module):
    """The user's module, called with byte `ids` [B, T] int64 and `mask` [B, T] bool -> [B, W] or [B, T, W]."""

    def __init__(self, module: nn.Module, pooling: str, dropout: float | None, max_tokens: int) -> None:
        super().__init__()
        self.module = module
        self.pooling = pooling
        if dropout is not None:
            _set_dropout(module, dropout)
        self.width = self._probe(max_tokens)

    def forward(self, batch: Batch) -> Tensor:
        """-> [B, width] float32."""
        mask = batch.get("mask")
        out = self.module(batch.get("ids"), mask)
        if not isinstance(out, Tensor) or out.ndim not in (2, 3) or out.shape[0] != len(batch):
            given = list(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"your text encoder {type(self.module).__name__} gave {given} for (ids, mask) of {list(mask.shape)}: "
                "it must give a tensor [B, W] or [B, T, W]"
            )
        return out.float() if out.ndim == 2 else pool(out, mask, self.pooling)

    def _probe(self, length: int) -> int:
        """Its width, seen on one row as long as they come; whatever does not fit shows here, not in mid-run."""
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        ids = torch.full((1, length), tokens.BYTES - 1, device=device)
        batch = Batch({"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool)})
        try:
            with probing(self.module):
                return int(self(batch).shape[1])
        except InputError:
            raise
        except Exception as error:  # the user's code; their message is the useful one
            raise InputError(
                f"your text encoder {type(self.module).__name__} fails on (ids, mask) of [1, {length}], with ids in "
                f"[0, {tokens.BYTES}): {type(error).__name__}: {error}"
            ) from error


def _small(settings: Text, dropout: float) -> PreTrainedModel:
    """BERT at a small size, over bytes, with random weights and without pooler."""
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


def _from_hub(settings: Text, pooling: str, weights: bool) -> PreTrainedModel:
    """A Hugging Face encoder, checked against its tokenizer and the settings."""
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
    _set_config(config, settings.dropout, name)
    model, missing = hub.load_model(name, config) if weights else (hub.build_model(name, config), set())
    absent = {id(p) for key, p in model.named_parameters() if key in missing}
    if config.is_encoder_decoder or (hasattr(model, "encoder") and hasattr(model, "decoder")):
        model = model.get_encoder()
        model.config.is_encoder_decoder = True  # files of an encoder alone (T5EncoderModel's) deny it
    if pooling == "pooler" and not _pools(model, tokenizer):
        raise InputError(f"text setting pooling='pooler': encoder {name!r} has none; give pooling='cls'")
    if pooling != "pooler" and getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)  # it would be weights that take no part in the loss
    if lost := [key for key, p in model.named_parameters() if id(p) in absent]:
        raise InputError(
            f"the weights of text encoder {name!r} lack {len(lost)} tensors of its architecture, {lost[0]!r} among "
            "them: give another checkpoint, or pretrained=False to begin from random weights"
        )
    if settings.dropout is not None:
        _set_dropout(model, settings.dropout)
    _check_fits(model, tokenizer, name)
    model.train()  # as any new module is; loaded ones come in eval mode, where dropout is off
    return model


def _pools(model: PreTrainedModel, tokenizer: tokens.HubTokenizer) -> bool:
    """Whether a model gives a pooled output: of its first token where it has a pooler, CLIP's and SigLIP's as they do.

    Raises:
        InputError: a pooler that would look at another token than the leading one it was made for.
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


def _set_config(config: PreTrainedConfig, dropout: float | None, name: str) -> None:
    """Dropout as asked; no LayerDrop, which would leave whole layers without gradients at random."""
    if dropout is not None:
        for key in DROPOUTS:
            if hasattr(config, key):
                setattr(config, key, float(dropout))
    for key in LAYERDROPS:
        if getattr(config, key, 0):
            log.warning("text encoder %r: %s %s is set to 0", name, key, getattr(config, key))
            setattr(config, key, 0.0)


def _set_dropout(module: nn.Module, dropout: float) -> None:
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = float(dropout)


def _check_padding(encoder: TransformerEncoder, tokenizer: tokens.Tokenizer, name: str) -> None:
    """A short text has one vector, alone or beside a long one."""
    texts = [torch.as_tensor(tokenizer(text), dtype=torch.int64) for text in ("a", "a text of some more words")]
    ids = nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=tokenizer.pad)
    mask = torch.arange(ids.shape[1]) < torch.tensor([[len(text)] for text in texts])
    with probing(encoder):
        alone, beside = encoder.pooled(texts[0][None], mask[:1, : len(texts[0])])[0], encoder.pooled(ids, mask)[0]
    if (alone - beside).norm() > PADDING * alone.norm():
        raise InputError(
            f"text encoder {name!r}: what it makes of a text depends on how far the batch is padded; give fill=True "
            "(--text.fill), and every text is filled up to max_tokens"
        )


def _check_fits(model: PreTrainedModel, tokenizer: tokens.HubTokenizer, name: str) -> None:
    """Ids and positions lie inside the model's tables: outside, a GPU would only say 'device-side assert'."""
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
    if positions is None or positions < 1:  # XLNet's -1: as many as are wanted
        return
    for part in model.modules():  # RoBERTa counts positions from behind its padding
        if isinstance(part, nn.Embedding) and part is not table and part.num_embeddings == positions:
            positions -= 0 if part.padding_idx is None else part.padding_idx + 1
            break
    if tokenizer.limit > positions:
        raise InputError(
            f"text setting max_tokens={tokenizer.limit}: encoder {name!r} has {positions} positions; give "
            f"max_tokens={positions} or less"
        )
