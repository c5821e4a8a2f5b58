"""Fetching the weights that a card names; downloaded once, they are read from the cache, also without a network."""

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from zoo.registry import Weights
from zoo.storage import DamagedFile, describe_file
from zoo.version import __version__
from zoo.weights.cards import bundled_names
from zoo.weights.tensors import Later, Lazy, read_header


def fetch(card: Weights, endpoint: str | None = None, verify: bool = True) -> Mapping[str, Lazy]:
    """The tensors of a card's weights by the names that they have there.

    Args:
        card: of a Hub repository or of torchvision.
        endpoint: the Hub's address; by default HF_ENDPOINT, or huggingface.co.
        verify: whether to compare the file with the card's sha256, where it has one.

    Raises:
        OSError: they cannot be downloaded; the message names the weights that need no download.
        DamagedFile: the bytes are not those that were published.
    """
    if "torchvision" in card.source:
        return _from_torchvision(str(card.source["torchvision"]))
    path = _from_hub(card, endpoint)
    expected = card.source.get("sha256")
    if expected is None and not card.source.get("pinned", True):
        warnings.warn(
            f"{card.preset}.{card.tag}: its card knows no checksum, so these are the bytes that the Hub has today",
            stacklevel=2,
        )
    if expected is not None and verify and describe_file(path)["sha256"] != expected:
        raise DamagedFile(f"{path}: its sha256 differs from the card's; delete it, so that it is fetched anew")
    return read_header(path)


def _from_hub(card: Weights, endpoint: str | None) -> Path:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError  # pyright: ignore[reportPrivateImportUsage]

    repo, file = str(card.source["repo"]), str(card.source["file"])
    revision: str | None = card.source.get("revision")
    try:  # what was downloaded once stays as it is, and needs no network
        return Path(hf_hub_download(repo, file, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        # Asked once, where the download itself would try for half a minute to reach a Hub that is not there.
        get_hf_file_metadata(hf_hub_url(repo, file, revision=revision, endpoint=endpoint), endpoint=endpoint)
        return Path(
            hf_hub_download(
                repo, file, revision=revision, endpoint=endpoint, library_name="zoo", library_version=__version__
            )
        )
    except (OSError, HTTPError) as error:
        raise OSError(_refused(f"{repo}/{file}", error)) from None


def _from_torchvision(name: str) -> Mapping[str, Lazy]:
    """torchvision's own weights; its file names hold a part of their sha256, which is compared."""
    from torchvision.models import get_weight

    weights = get_weight(name)
    try:
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except RuntimeError as error:
        if "hash" not in str(error):
            raise
        raise DamagedFile(f"{weights.url}: {error}; try again, or use another mirror") from None
    except OSError as error:
        raise OSError(_refused(weights.url, error)) from None
    return {key: Later(tuple(tensor.shape), tensor.dtype, partial(_itself, tensor)) for key, tensor in state.items()}


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def _refused(what: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"{what} cannot be downloaded: {reason}; {bundled_names()}"
