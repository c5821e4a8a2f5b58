"""Text to tokens and back: by the tokenizer.json that came with a model's weights, or byte by byte."""

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from zoo.factory import config, provenance
from zoo.storage import DamagedFile
from zoo.weights import GENERATION, TOKENIZER, TOKENIZER_CONFIG, read_tokenizer

BYTES = 256
"""The vocabulary of models that read text byte by byte."""
SENTINELS = 100
"""Such a model may have up to so many tokens above the bytes, which stand for what was cut out of a text."""
END = 0
"""The byte after which a text is over, as `zoo/training/data/text.py` joins them."""
ENDS, PADS = ("<|endoftext|>", "</s>"), ("<pad>", "[PAD]")
"""What ends and fills up texts where a tokenizer_config.json is silent, as GPT-2's, BERT's and T5's own are."""
HELD_BACK = "\ufffd"
"""Stands in decoded text where bytes of a letter are still missing."""


class Tokenizer(Protocol):
    """What can be asked of a tokenizer, wherever it comes from."""

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        ...

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """The tokens that end a text; in a corpus the first of them does."""
        ...

    @property
    def pad_token(self) -> int:
        """What stands behind the shorter texts of a batch, where the mask is False."""
        ...

    def encode(self, text: str, pair: str | None = None, max_seq_len: int | None = None) -> tuple[list[int], list[int]]:
        """The tokens of a text, or of two that belong together, and for each of them to which of the two it belongs.

        Where there would be more than `max_seq_len`, a text loses its end, of two the longer one first; what the
        tokenizer itself adds to texts stays.
        """
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens; special ones, such as the end of a text, are left out."""
        ...


class ByteTokenizer:
    """A text's UTF-8 bytes are its tokens; above them there may be sentinels, spelt `<extra_id_0>` as by T5's own."""

    stop_tokens = (END,)
    pad_token = END

    def __init__(self, sentinels: int = 0) -> None:
        """Read texts; the first of so many sentinels is the last token."""
        self.vocab_size = BYTES + sentinels
        self._sentinels = {f"<extra_id_{i}>": self.vocab_size - 1 - i for i in range(sentinels)}
        self._names = {token: name.encode() for name, token in self._sentinels.items()}

    def encode(self, text: str, pair: str | None = None, max_seq_len: int | None = None) -> tuple[list[int], list[int]]:
        """See `Tokenizer`; two texts are separated by the byte that ends one."""
        first, second = self._tokens(text), [] if pair is None else self._tokens(pair)
        between = [] if pair is None else [END]
        if max_seq_len is not None:
            room = max(0, max_seq_len - len(between))
            first = first[: max(room - len(second), (room + 1) // 2)]
            second = second[: room - len(first)]
        second = between + second
        return first + second, [0] * len(first) + [1] * len(second)

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = []
        for piece in re.split(r"(<extra_id_\d+>)", text):
            tokens += [self._sentinels[piece]] if piece in self._sentinels else piece.encode()
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """See `Tokenizer`; bytes that are no UTF-8 become the replacement character."""
        pieces = (self._names.get(token) or bytes([token]) for token in tokens if token != END)
        return b"".join(pieces).decode(errors="replace")


class FileTokenizer:
    """A tokenizer.json, run by the tokenizers library."""

    files: Mapping[str, bytes]
    """What it was read from, by name."""

    def __init__(self, text: bytes, config: bytes = b"{}", generation: bytes | None = None) -> None:
        """Read it.

        Args:
            text: the contents of a tokenizer.json.
            config: those of the tokenizer_config.json beside it, which says which tokens end and fill up a text.
            generation: those of the generation_config.json, where there is one; it can name further ones that end it.

        Raises:
            DamagedFile: they are not what their names say.
        """
        from tokenizers import Tokenizer as Library

        try:
            self._library = Library.from_buffer(text)
        except Exception as error:  # the library raises nothing more special
            raise DamagedFile(f"{TOKENIZER}: cannot be read: {error}; use another copy") from None
        self.files = {TOKENIZER: text, TOKENIZER_CONFIG: config}
        self.files |= {} if generation is None else {GENERATION: generation}
        self._library.no_padding()
        self._library.no_truncation()
        self._truncating: dict[int, Library] = {}
        self.vocab_size: int = self._library.get_vocab_size(with_added_tokens=True)
        facts = _facts(TOKENIZER_CONFIG, config)
        given = _facts(GENERATION, b"{}" if generation is None else generation).get("eos_token_id")
        further = [token for token in (given if isinstance(given, list) else [given]) if type(token) is int]
        end = self._special(facts.get("eos_token"), () if further else ENDS)
        ends = [token for token in (end, *further) if token is not None and token >= 0]  # -1 means none
        self.stop_tokens: tuple[int, ...] = tuple(dict.fromkeys(ends))
        pad = self._special(facts.get("pad_token"), PADS)
        self.pad_token: int = pad if pad is not None else next(iter(ends), 0)

    def _special(self, token: object, usual: Sequence[str]) -> int | None:
        """The number of a special token, given as its text or as an object with it; else the first usual one's."""
        content = token.get("content") if isinstance(token, Mapping) else token
        names = [content] if isinstance(content, str) else usual
        return next((found for name in names if (found := self._library.token_to_id(name)) is not None), None)

    def encode(self, text: str, pair: str | None = None, max_seq_len: int | None = None) -> tuple[list[int], list[int]]:
        """See `Tokenizer`; special tokens are added as the file says."""
        encoded = self._library_of(max_seq_len).encode(text, pair)
        if max_seq_len is not None and len(encoded) > max_seq_len:  # then the library leaves the texts as they are
            special = self._library.num_special_tokens_to_add(pair is not None)
            raise ValueError(
                f"{max_seq_len} tokens have no room for the {special} that this tokenizer adds itself; allow more"
            )
        return encoded.ids, encoded.type_ids

    def _library_of(self, max_seq_len: int | None) -> Any:
        """The library's tokenizer that cuts at this length: a copy, for the length is a setting of the whole."""
        if max_seq_len is None:
            return self._library
        if max_seq_len not in self._truncating:
            library = copy.deepcopy(self._library)
            library.enable_truncation(max_seq_len)
            self._truncating[max_seq_len] = library
        return self._truncating[max_seq_len]

    def decode(self, tokens: Iterable[int]) -> str:
        """See `Tokenizer`."""
        return self._library.decode(list(tokens), skip_special_tokens=True)


def _facts(name: str, content: bytes) -> dict[str, object]:
    """What a file beside a tokenizer.json says."""
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedFile(f"{name}: cannot be read: {error}; use another copy") from None


def tokenizer(model_or_name: nn.Module | str) -> Tokenizer:
    """The tokenizer that belongs to a model's weights.

    Args:
        model_or_name: a model, or what `zoo.create` takes.

    Raises:
        ValueError: its weights came without one, and it does not read bytes.
    """
    source = provenance(model_or_name, text=True)
    if source.tokenizer == TOKENIZER:
        return _from_files(source.files)
    described = config(model_or_name) if isinstance(model_or_name, str) else getattr(model_or_name, "config", None)
    size = getattr(described, "vocab_size", None)
    if size is not None and BYTES <= size <= BYTES + SENTINELS:
        return ByteTokenizer(size - BYTES)
    who = model_or_name if isinstance(model_or_name, str) else type(model_or_name).__name__
    if size is None:
        raise ValueError(f"{who} reads no text; take a language model, such as those of task text-generation")
    raise ValueError(
        f"{who} has a vocabulary of {size} tokens and no tokenizer with it, so text cannot be read; load weights that "
        f"lie beside a {TOKENIZER}, or take a model with vocab_size {BYTES}, which reads bytes"
    )


def named_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a tokenizer.json is, or that belongs to a model's weights.

    Args:
        name: the path of such a file, or what `zoo.create` takes.
    """
    path = Path(name)
    if path.suffix != ".json":
        return tokenizer(name)
    files = read_tokenizer(path.parent) if path.name == TOKENIZER else {TOKENIZER: path.read_bytes()}
    if not files:
        raise FileNotFoundError(f"{path} does not exist; give a tokenizer.json or a model that has one")
    return _from_files(files)


def tokenizer_of(files: Mapping[str, bytes]) -> Tokenizer:
    """The tokenizer that files are, by name; without any, bytes are the tokens."""
    return _from_files(files) if files else ByteTokenizer()


def _from_files(files: Mapping[str, bytes]) -> FileTokenizer:
    return FileTokenizer(files[TOKENIZER], files.get(TOKENIZER_CONFIG, b"{}"), files.get(GENERATION))


def learn_tokenizer(texts: Sequence[str], vocab_size: int) -> FileTokenizer:
    """A vocabulary of its own for a corpus: bytes, and what they are most often merged into within words.

    As in CLIP's own, letters are read as small ones, white space only separates, so that a word is the same wherever it
    stands, and behind every text comes a token that ends it. The same texts give the same vocabulary.

    Source: Sennrich et al., 2016, "Neural machine translation of rare words with subword units", section 3.2, on bytes.

    Args:
        texts: what to learn from; for a test that means something, the training part alone.
        vocab_size: tokens in all: two special ones, the bytes, and the merges.

    Raises:
        ValueError: there is no room for the bytes, or the texts give fewer tokens.
    """
    from tokenizers import Tokenizer as Library
    from tokenizers import models, pre_tokenizers, processors, trainers

    least, end, pad = BYTES + 2, ENDS[0], PADS[0]
    if vocab_size < least:
        raise ValueError(
            f"vocab_size {vocab_size} has no room for the bytes and two special tokens; give {least} or more"
        )
    library: Any = Library(models.BPE())
    _read_words(library)
    trainer: Any = trainers.BpeTrainer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    settings = {"special_tokens": [pad, end], "initial_alphabet": alphabet, "show_progress": False}
    library.train_from_iterator(texts, trainer(vocab_size=vocab_size, **settings))
    if (found := library.get_vocab_size()) < vocab_size:
        raise ValueError(f"vocab_size {vocab_size} is more than the {found} tokens that the texts give; ask for fewer")
    library.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B:1 {end}:1", special_tokens=[(end, library.token_to_id(end))]
    )
    return FileTokenizer(library.to_str().encode(), json.dumps({"eos_token": end, "pad_token": pad}).encode())


def _read_words(library: Any) -> None:
    """Let a tokenizer of the library read words, digits and runs of other signs, each as if a space stood before it."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    words = Regex(r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
    library.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
        ]
    )
    library.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace(Regex("^ "), "")])


def tokenizer_files(reader: Tokenizer | None) -> Mapping[str, bytes]:
    """What a model must be saved with, so that it can read text; nothing where bytes are its tokens."""
    return reader.files if isinstance(reader, FileTokenizer) else {}


def batch(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    max_seq_len: int | None = None,
    *,
    fill: bool = False,
    end: bool = False,
) -> dict[str, Tensor]:
    """Texts as one batch, the shorter ones filled up behind.

    Args:
        tokenizer: what reads them.
        texts: the texts.
        pairs: for each text another that belongs to it.
        max_seq_len: longer texts lose their end, of two the longer one first.
        fill: the batch has `max_seq_len` positions whatever its texts, so that its shape never changes.
        end: the last token of every text is the one that ends it, for models that read a text at its end, as CLIP does;
            a text that holds this token itself, or with bytes the byte 0, ends there for them.

    Returns:
        `tokens` (batch, seq) int64, `mask` (batch, seq) bool, True where there is a token, and with pairs `segments`
        (batch, seq) int64, 1 for tokens of the second text.

    Raises:
        ValueError: there is no text, or not a pair for each, or `max_seq_len` has no room for a tokenizer's own tokens,
            or an end is wanted of a tokenizer that has none.
    """
    if not texts or (pairs is not None and len(pairs) != len(texts)):
        raise ValueError(f"expected one or more texts and as many pairs, got {len(texts)} and {len(pairs or ())}")
    both = zip(texts, pairs or [None] * len(texts), strict=True)
    encoded = [tokenizer.encode(text, pair, max_seq_len) for text, pair in both]
    if end:
        encoded = [_ended(tokenizer, *row, max_seq_len) for row in encoded]
    longest = max(1, *(len(tokens) for tokens, _ in encoded))
    shape = (len(texts), max_seq_len if fill and max_seq_len is not None else longest)
    made = {
        "tokens": torch.full(shape, tokenizer.pad_token),
        "mask": torch.zeros(shape, dtype=torch.bool),
        "segments": torch.zeros(shape, dtype=torch.int64),
    }
    for row, (tokens, segments) in enumerate(encoded):
        made["tokens"][row, : len(tokens)] = torch.tensor(tokens, dtype=torch.int64)
        made["mask"][row, : len(tokens)] = True
        made["segments"][row, : len(tokens)] = torch.tensor(segments, dtype=torch.int64)
    return made if pairs is not None else {"tokens": made["tokens"], "mask": made["mask"]}


def _ended(
    tokenizer: Tokenizer, tokens: list[int], segments: list[int], max_seq_len: int | None
) -> tuple[list[int], list[int]]:
    """A text that has its end, in the place of its last token where there is no room for one more."""
    if not tokenizer.stop_tokens:
        raise ValueError("this tokenizer has no token that ends a text; name one as eos_token in tokenizer_config.json")
    last = tokenizer.stop_tokens[0]
    if tokens and tokens[-1] == last:
        return tokens, segments
    kept = len(tokens) if max_seq_len is None else min(len(tokens), max_seq_len - 1)
    return [*tokens[:kept], last], [*segments[:kept], segments[-1] if segments else 0]


def decode_stream(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """Text piece by piece, as soon as its letters are whole; together the pieces are what all tokens decode to.

    A piece is what a token adds to the text of those a little before it, for how a token reads can depend on them.
    """
    seen: list[int] = []
    start = read = 0  # the text from `start` on is looked at, that up to `read` has been given
    for token in tokens:
        seen.append(token)
        before, now = tokenizer.decode(seen[start:read]), tokenizer.decode(seen[start:])
        if len(now) > len(before) and not now.endswith(HELD_BACK):
            yield now[len(before) :]
            start, read = read, len(seen)
    rest = tokenizer.decode(seen[start:])[len(tokenizer.decode(seen[start:read])) :]
    if rest:
        yield rest
