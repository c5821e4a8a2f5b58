"""What the comparisons with other libraries share."""

import pytest
import torch

TEXT = {"vocab_size": 101, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": 0}
"""The part of transformers' configs that is the same for all language models here."""
CLASS = {"GPT2": "GPT2LMHeadModel"}
"""transformers' class of a family, where it is not the family's name and `ForCausalLM`."""


def built(family, options):
    """A language model of transformers with weights in which nothing is zero or one any more."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**TEXT, **options)
    return perturbed(getattr(transformers, CLASS.get(family, f"{family}ForCausalLM"))(config).eval())


@torch.no_grad()
def perturbed(model, share=0.3):
    """The model itself, each parameter moved by a share of its own deviation."""
    for parameter in model.parameters():
        parameter += (
            share * parameter.std(correction=int(parameter.numel() > 1)).clamp(min=0.1) * torch.randn_like(parameter)
        )
    return model


def texts(batch=2, seq=23):
    """Random tokens, the same each time."""
    return torch.randint(1, TEXT["vocab_size"], (batch, seq), generator=torch.Generator().manual_seed(1))


def largest_difference(value, truth):
    """In shares of the largest true number."""
    return ((value - truth).abs().max() / truth.abs().max()).item()
