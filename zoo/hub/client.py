"""Fetching what a card names; downloaded once, it is read from the cache, also without a network."""

import contextlib
import re
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from torch import Tensor

from zoo.registry import Weights
from zoo.storage import DamagedFile, describe_file
from zoo.version import __version__
from zoo.weights import GENERATION, INDEX, TOKENIZER, TOKENIZER_CONFIG, read_index, read_tensors, read_tokenizer
from zoo.weights.cards import bundled_names
from zoo.weights.tensors import Later, Lazy, read_header

COMMIT = re.compile("[0-9a-f]{40}")


def fetch(card: Weights, endpoint: str | None = None, verify: bool = True) -> Mapping[str, Lazy]:
    """The tensors of a card's weights by the names that they have there.

    Args:
        card: of a Hub repository or of torchvision.
        endpoint: the Hub's address; by default HF_ENDPOINT, or huggingface.co.
        verify: whether to compare files with the card's sha256, where it has some.

    Raises:
        OSError: they cannot be downloaded; the message names the weights that need no download.
        DamagedFile: the bytes are not those that were published.
    """
    if "torchvision" in card.source:
        return _from_torchvision(str(card.source["torchvision"]))
    repo, file, revision = str(card.source["repo"]), str(card.source["file"]), card.source.get("revision")
    path = _checked(card, _from_hub(repo, file, revision, endpoint), verify, file)
    if card.source.get("sha256") is None and not card.source.get("pinned", True):
        warnings.warn(
            f"{card.preset}.{card.tag}: its card knows no checksum, so these are the bytes that the Hub has today",
            stacklevel=2,
        )
    if not file.endswith(INDEX.removeprefix("model")):
        return read_header(path)
    # The cache keeps a commit's files in one folder named after it; a later one may have other tensors.
    stem, within = path.name.removesuffix(INDEX.removeprefix("model")), PurePosixPath(file).parent
    for shard in sorted(set(read_index(path, stem).values())):
        name = str(within / shard)
        _checked(card, _from_hub(repo, name, _commit_of(path, file), endpoint), verify, name)
    return read_tensors(path.parent, links=True, stem=stem)


def fetch_tokenizer(card: Weights, endpoint: str | None = None, verify: bool = True) -> dict[str, bytes]:
    """The files of the tokenizer that belongs to a card's weights, by name; none where it has no tokenizer.

    Args:
        card: of any weights.
        endpoint: as for `fetch`.
        verify: as for `fetch`.

    Raises:
        OSError: they cannot be downloaded.
        DamagedFile: the bytes are not those that were published.
    """
    if card.tokenizer is None or "repo" not in card.source:
        return {}
    own = str(card.source["repo"])
    repo = str(card.source.get("tokenizer", own))
    revision = _commit(own, str(card.source["file"]), card.source.get("revision")) if repo == own else None
    try:
        path = _checked(card, _from_hub(repo, TOKENIZER, revision, endpoint), verify, TOKENIZER)
    except FileNotFoundError:
        return {}
    for beside in (TOKENIZER_CONFIG, GENERATION):
        with contextlib.suppress(FileNotFoundError):  # some do without it
            _checked(card, _from_hub(repo, beside, path.parent.name, endpoint), verify, beside)
    return read_tokenizer(path.parent)


def _commit(repo: str, file: str, revision: str | None) -> str | None:
    """The commit of a file that was downloaded, so that what belongs to it comes from the same one."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, file, revision=revision)
    return _commit_of(Path(path), file) if isinstance(path, str) else revision


def _commit_of(path: Path, file: str) -> str:
    """The name of the folder in which the cache keeps a commit's files; `file` may lie deeper."""
    return path.parents[len(PurePosixPath(file).parts) - 1].name


def _checked(card: Weights, path: Path, verify: bool, name: str) -> Path:
    """A downloaded file, if it has the sha256 that the card gives for it: one for its `file`, or one for each name."""
    known = card.source.get("sha256")
    known = known if isinstance(known, Mapping) else {str(card.source["file"]): known}
    expected = known.get(name)
    if expected is not None and verify and describe_file(path)["sha256"] != expected:
        raise DamagedFile(f"{path}: its sha256 differs from the card's; delete it, so that it is fetched anew")
    return path


def _from_hub(repo: str, file: str, revision: str | None, endpoint: str | None) -> Path:
    """A file of a repository in the cache.

    Raises:
        FileNotFoundError: the repository has no such file, now or when it was asked last.
        OSError: it cannot be downloaded.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HTTPError,  # pyright: ignore[reportPrivateImportUsage]
        RemoteEntryNotFoundError,
    )

    where = f"{repo}/{file}"
    known = try_to_load_from_cache(repo, file, revision=revision)
    if isinstance(known, str):  # what was downloaded once stays as it is, and needs no network
        return Path(known)
    absent = f"{where} cannot be downloaded: there is no such file; {bundled_names()}"
    if known is not None and COMMIT.fullmatch(revision or ""):  # a branch may have got it since it was asked
        raise FileNotFoundError(absent)
    try:
        # Asked once, where the download itself would try for half a minute to reach a Hub that is not there.
        with contextlib.suppress(RemoteEntryNotFoundError):  # that is for the download to remember
            get_hf_file_metadata(hf_hub_url(repo, file, revision=revision, endpoint=endpoint), endpoint=endpoint)
        return Path(
            hf_hub_download(
                repo, file, revision=revision, endpoint=endpoint, library_name="zoo", library_version=__version__
            )
        )
    except RemoteEntryNotFoundError:
        raise FileNotFoundError(absent) from None
    except GatedRepoError:
        reason = (
            f"its owner asks for consent: accept the licence at https://huggingface.co/{repo}, then `hf auth login`"
        )
        raise OSError(f"{where} cannot be downloaded: {reason}; {bundled_names()}") from None
    except (OSError, HTTPError) as error:
        raise OSError(_refused(where, error)) from None


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
