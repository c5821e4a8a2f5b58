"""BERT's names in transformers' checkpoints: with a head for words, with a classifier, or the encoder alone."""

from collections.abc import Mapping
from typing import Any

from zoo.architectures.bert import BertConfig
from zoo.config import ConfigError
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate

EMBED = {
    "token": "word_embeddings",
    "position": "position_embeddings",
    "segment": "token_type_embeddings",
    "norm": "LayerNorm",
}
BLOCK = {
    "attn.proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp.up": "intermediate.dense",
    "mlp.proj": "output.dense",
    "norm2": "output.LayerNorm",
}
HEADS = {"BertForMaskedLM": "masked_lm", "BertForPreTraining": "masked_lm", "BertModel": "none"}
"""Their class -> our head. Whether a BertModel has a pooler its config does not say; `head="pooler"` asks for it."""
CLASSIFIER = "BertForSequenceClassification"
POOLER, WORDS, CLASSES = r"(bert\.)?pooler\..*", r"cls\.predictions\..*", r"(classifier|qa_outputs)\..*"
NEVER = (r"(bert\.)?embeddings\.position_ids", r"cls\.seq_relationship\..*")
"""A table of 0, 1, 2, ... in old files, and the head for next sentences."""


def layout(config: BertConfig) -> Layout:
    """`bert.encoder.layer.0` is the first block; a model without a head of its own has no `bert.`."""
    renamed, copies, unused = _head(config)
    alone = config.num_classes is None and config.head != "masked_lm"
    body = "" if alone else "bert."
    joined = {}
    renamed |= {f"embed.{ours}": f"{body}embeddings.{theirs}" for ours, theirs in EMBED.items()}
    for block in range(config.depth):
        ours, theirs = f"blocks.{block}", f"{body}encoder.layer.{block}"
        renamed |= {f"{ours}.{name}": f"{theirs}.{their}" for name, their in BLOCK.items()}
        for kind in ("weight", "bias"):
            parts = (f"{theirs}.attention.self.{part}.{kind}" for part in ("query", "key", "value"))
            joined[f"{ours}.attn.qkv.{kind}"] = tuple(parts)
    return Layout(
        renamed=renamed,
        joined=joined,
        copies=copies,
        unused=(*NEVER, *unused),
        respelt=(
            (r"LayerNorm\.gamma$", "LayerNorm.weight"),
            (r"LayerNorm\.beta$", "LayerNorm.bias"),
            (r"^bert\.", "") if alone else (r"^(?=(embeddings|encoder|pooler)\.)", "bert."),
        ),
    )


def _head(config: BertConfig) -> tuple[dict[str, str], dict[str, str], tuple[str, ...]]:
    """Where the head's tensors stand, which are stored twice, and what belongs to other heads."""
    if config.num_classes is not None:
        return {"head.pooler.proj": "bert.pooler.dense", "head.proj": "classifier"}, {}, (WORDS,)
    if config.head == "pooler":
        return {"head.proj": "pooler.dense"}, {}, (WORDS, CLASSES)
    if config.head == "none":
        return {}, {}, (POOLER, WORDS, CLASSES)
    renamed = {
        "head.proj": "cls.predictions.transform.dense",
        "head.norm": "cls.predictions.transform.LayerNorm",
        "head.bias": "cls.predictions.bias",
    }
    copies = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    return renamed, copies, (POOLER,)


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json; a file that names no class is taken for one with a head for words.

    `classifier_dropout`, which only further training would notice, is not kept.
    """
    named = theirs.get("architectures")
    kind = str(named[0]) if isinstance(named, list) and named else "BertForMaskedLM"
    if kind not in HEADS and kind != CLASSIFIER:
        raise ConfigError(
            f"architectures names {kind!r}, and this architecture knows the heads of {', '.join(HEADS)} and "
            f"{CLASSIFIER}; its encoder alone is loaded by weights=model.safetensors and head='none'"
        )
    fields = translate(
        theirs,
        {
            "vocab_size": ("vocab_size", 30522),
            "max_seq_len": ("max_position_embeddings", 512),
            "num_segments": ("type_vocab_size", 2),
            "dim": ("hidden_size", 768),
            "depth": ("num_hidden_layers", 12),
            "num_heads": ("num_attention_heads", 12),
            "mlp_dim": ("intermediate_size", 3072),
            "dropout": ("hidden_dropout_prob", 0.1),
            "attn_dropout": ("attention_probs_dropout_prob", 0.1),
            "norm_eps": ("layer_norm_eps", 1e-12),
        },
        {
            "hidden_act": ("gelu", "gelu_python"),
            "position_embedding_type": ("absolute",),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
            **({"tie_word_embeddings": (True,)} if HEADS.get(kind) == "masked_lm" else {}),
        },
    )
    if kind != CLASSIFIER:
        return {**fields, "head": HEADS[kind]}
    labels = theirs.get("id2label")  # not written where there are two without names
    return {**fields, "num_classes": len(labels) if isinstance(labels, Mapping) else theirs.get("num_labels", 2)}


FORMATS = {"transformers": layout}
MODEL_TYPES = {"bert": read_config}
NAMES = {
    "transformers": {
        "bert_tiny": "google/bert_uncased_L-2_H-128_A-2",
        "bert_mini": "google/bert_uncased_L-4_H-256_A-4",
        "bert_small": "google/bert_uncased_L-4_H-512_A-8",
        "bert_medium": "google/bert_uncased_L-8_H-512_A-8",
        "bert_base": "google-bert/bert-base-uncased",
        "bert_base_cased": "google-bert/bert-base-cased",
        "bert_large": "google-bert/bert-large-uncased",
        "minilm_l6": "nreimers/MiniLM-L6-H384-uncased",
        "minilm_l12": "microsoft/MiniLM-L12-H384-uncased",
    }
}
