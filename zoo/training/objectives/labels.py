"""What the objectives share that learn the classes of nodes and of graphs."""

from torch import Tensor

from zoo.training.data import Spec


def check_classes(name: str, spec: Spec, *keys: str) -> None:
    """Refuse data without classes, or without what the objective looks at.

    Raises:
        ValueError: one is missing; the message says which.
    """
    if missing := [key for key in keys if key not in spec.keys]:
        raise ValueError(
            f"objective {name} needs {', '.join(missing)}, but the data give {', '.join(spec.keys)}; take other data"
        )
    if spec.num_classes is None or spec.num_classes < 2:
        raise ValueError(f"objective {name} needs data with two classes or more, not {spec.num_classes}")


def check_logits(logits: Tensor, target: Tensor, spec: Spec) -> None:
    """Refuse answers that are not one for each target, with a number for each class.

    Raises:
        ValueError: they are not.
    """
    classes = spec.num_classes or 0
    if logits.shape[:-1] != target.shape:
        raise ValueError(
            f"the model gives logits of shape {tuple(logits.shape)} for targets of shape {tuple(target.shape)}, which "
            "do not belong together; set the objective.name that fits: node_classification for the nodes of a graph, "
            "graph_classification for whole graphs"
        )
    if logits.shape[-1] < classes:
        raise ValueError(
            f"the model gives logits of shape {tuple(logits.shape)} for targets of shape {tuple(target.shape)} in "
            f"{classes} classes; set model.num_classes={classes}"
        )


def hits(logits: Tensor, target: Tensor) -> Tensor:
    """How many targets have the largest logit; of -100, where nothing is asked for, there is none."""
    return (logits.detach().argmax(-1) == target).sum()
