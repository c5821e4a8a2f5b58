"""Whether arguments have the shapes that belong together: what indexes one by the sizes of another reads beyond it."""

from torch import Tensor


def check_shape(name: str, tensor: Tensor | None, **axes: int | None) -> tuple[int, ...]:
    """Compare a shape with the sizes that its axes must have.

    Args:
        name: what the public function calls the argument.
        tensor: the argument; one that is not given has no shape to be wrong.
        **axes: the size of every axis by its name, in order; None where any size will do.

    Returns:
        The shape.

    Raises:
        ValueError: the shape is another one.
    """
    if tensor is None:
        return ()
    shape, sizes = tensor.shape, tuple(axes.values())
    if shape == sizes:  # at once, for models ask at every token, in every layer
        return shape
    if len(shape) == len(sizes) and all(right in (None, size) for size, right in zip(shape, sizes, strict=True)):
        return shape
    wanted = ", ".join(axis if size is None else f"{axis} {size}" for axis, size in axes.items())
    raise ValueError(f"{name} must be ({wanted}), got the shape {tuple(shape)}")
