"""What the objectives of tokens share."""

import inspect

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.training.data import IGNORE, Spec


def check_tokens(name: str, spec: Spec) -> int:
    """The size of the data's vocabulary, which there must be.

    Raises:
        ValueError: the data are no tokens; the message names the objective and what they are.
    """
    if spec.vocab_size is None:
        given = ", ".join(spec.keys)
        raise ValueError(f"objective {name} needs data of tokens, with a vocabulary, but these give {given}")
    return spec.vocab_size


def check_mask(model: nn.Module, spec: Spec, argument: str) -> None:
    """Refuse a model that would read the padding of the data, for it does not take their mask.

    Args:
        model: whose forward is looked at.
        spec: of the data.
        argument: what the mask is called there.

    Raises:
        ValueError: the data have a mask, and the model does not take it.
    """
    if "mask" in spec.keys and argument not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"the data have a mask, and {type(model).__name__} takes no {argument}, so it would read padding as text; "
            "take another model, or data without padding, such as text with data.documents=false"
        )


def token_nll(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The negative log-likelihood of the tokens that are asked for, summed.

    Args:
        logits: (batch, seq, vocab).
        target: (batch, seq) int64, `IGNORE` where nothing is asked for.
        label_smoothing: share of the target's probability that is spread evenly over all tokens.
    """
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        target.flatten(),
        ignore_index=IGNORE,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
