"""Cards of language models' public repositories, which no installed library describes, so that they stand here.

All are in the layout of the transformers library, as safetensors and beside the tokenizer.json that they were trained
with. A commit and a sha256 are given only where independent sources agree on them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zoo.config import replace
from zoo.convert import foreign_tensors
from zoo.convert.published import COMMERCIAL
from zoo.registry import Architecture, Weights
from zoo.weights import INDEX, TENSORS, TOKENIZER
from zoo.weights.fit import on_meta

APACHE = "apache-2.0"
ENCODER = {"head": "none"}
"""Sentence embeddings: the mean of an encoder's hidden states."""


class Repository(NamedTuple):
    """A repository that holds one of our presets."""

    name: str
    pin: tuple[str, str] | None = None
    """Its commit, and there the sha256 of its file."""
    license: str = APACHE
    file: str = TENSORS
    config: Mapping[str, Any] = {}
    """Fields in which it differs from the preset."""
    gated: bool = False
    tokenizer: str | None = None
    """The repository with its tokenizer.json, where that is another."""


def _meta(name: str, license: str, file: str = INDEX) -> Repository:
    return Repository(f"meta-llama/{name}", license=license, file=file, gated=True)


REPOSITORIES: Mapping[str, Repository] = {
    "gpt2.openai": Repository(
        "openai-community/gpt2",
        (
            "607a30d783dfa663caf39e06633721c8d4cfcd7e",
            "248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
        ),
        license="mit",
    ),
    "gpt2_medium.openai": Repository("openai-community/gpt2-medium", license="mit"),
    "gpt2_large.openai": Repository("openai-community/gpt2-large", license="mit"),
    "gpt2_xl.openai": Repository(
        "openai-community/gpt2-xl",
        (
            "15ea56dee5df4983c59b2538573817e1667135e2",
            "0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
        ),
        license="mit",
    ),
    "bert_tiny.google": Repository("google/bert_uncased_L-2_H-128_A-2", tokenizer="google-bert/bert-base-uncased"),
    "bert_base.google": Repository(
        "google-bert/bert-base-uncased",
        (
            "86b5e0934494bd15c9632b12f734a8a67f723594",
            "68d45e234eb4a928074dfd868cead0219ab85354cc53d20e772753c6bb9169d3",
        ),
    ),
    "bert_base_cased.google": Repository(
        "google-bert/bert-base-cased",
        (
            "cd5ef92a9fb2f889e972770a36d4ed042daf221e",
            "1d8bdcee6021e2c25f0325e84889b61c2eb26b843eef5659c247af138d64f050",
        ),
    ),
    "bert_large.google": Repository("google-bert/bert-large-uncased"),
    "bert_large.google_cased": Repository("google-bert/bert-large-cased", config={"vocab_size": 28996}),
    "minilm_l6.all_v2": Repository(
        "sentence-transformers/all-MiniLM-L6-v2",
        (
            "1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        config=ENCODER,
    ),
    "minilm_l12.all_v2": Repository("sentence-transformers/all-MiniLM-L12-v2", config=ENCODER),
    "llama2_7b.base": _meta("Llama-2-7b-hf", "llama2"),
    "llama2_7b.chat": _meta("Llama-2-7b-chat-hf", "llama2"),
    "llama2_13b.base": _meta("Llama-2-13b-hf", "llama2"),
    "llama2_13b.chat": _meta("Llama-2-13b-chat-hf", "llama2"),
    "llama2_70b.base": _meta("Llama-2-70b-hf", "llama2"),
    "llama2_70b.chat": _meta("Llama-2-70b-chat-hf", "llama2"),
    "llama3_8b.base": _meta("Meta-Llama-3-8B", "llama3"),
    "llama3_8b.instruct": _meta("Meta-Llama-3-8B-Instruct", "llama3"),
    "llama3_70b.base": _meta("Meta-Llama-3-70B", "llama3"),
    "llama3_70b.instruct": _meta("Meta-Llama-3-70B-Instruct", "llama3"),
    "llama3_1_8b.base": _meta("Llama-3.1-8B", "llama3.1"),
    "llama3_1_8b.instruct": _meta("Llama-3.1-8B-Instruct", "llama3.1"),
    "llama3_2_1b.base": _meta("Llama-3.2-1B", "llama3.2", TENSORS),
    "llama3_2_1b.instruct": _meta("Llama-3.2-1B-Instruct", "llama3.2", TENSORS),
    "llama3_2_3b.base": _meta("Llama-3.2-3B", "llama3.2"),
    "llama3_2_3b.instruct": _meta("Llama-3.2-3B-Instruct", "llama3.2"),
    "tinyllama_1_1b.chat_v1": Repository(
        "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
        (
            "fe8a4ea1ffedaf415f4da2f062534de366a451e6",
            "6e6001da2106d4757498752a021df6c2bdc332c650aae4bae6b0c004dcf14933",
        ),
    ),
    "smollm2_135m.base": Repository(
        "HuggingFaceTB/SmolLM2-135M",
        (
            "93efa2f097d58c2a74874c7e644dbc9b0cee75a2",
            "80521b40281d6ce74e35c9282c22539e75aa0ac8578892b2a59955ef78d55da1",
        ),
    ),
    "smollm2_135m.instruct": Repository(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        (
            "12fd25f77366fa6b3b4b768ec3050bf629380bac",
            "5af571cbf074e6d21a03528d2330792e532ca608f24ac70a143f6b369968ab8c",
        ),
    ),
    "smollm2_360m.base": Repository(
        "HuggingFaceTB/SmolLM2-360M",
        (
            "f8027fd0eaeea54caa13c31d31b9fdc459c38b49",
            "7aaff6661428bed033abba9522bec81938678642cca3181fe752b6ca9e1e540f",
        ),
    ),
    "smollm2_360m.instruct": Repository("HuggingFaceTB/SmolLM2-360M-Instruct"),
    "smollm2_1_7b.base": Repository("HuggingFaceTB/SmolLM2-1.7B"),
    "smollm2_1_7b.instruct": Repository(
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        (
            "31b70e2e869a7173562077fd711b654946d38674",
            "f55217be716b6a997b97b9d8d7eb6fad02e00858f5010ec24f64603c3a98a0e8",
        ),
    ),
    "t5_small.google": Repository("google-t5/t5-small"),
    "t5_base.google": Repository(
        "google-t5/t5-base",
        (
            "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1",
            "a90903540cc02cbeb7ff9f823f1a80eb778c7e22426a0e620b01c77a5ec8f5b4",
        ),
    ),
    "t5_large.google": Repository("google-t5/t5-large"),
    "t5_v1_1_small.flan": Repository(
        "google/flan-t5-small",
        (
            "0fc9ddf78a1e988dac52e2dac162b0ede4fd74ab",
            "495fa51e204676f1a857a9fc13c4c89f3f5ba9f480b898cebca02add25e6d749",
        ),
    ),
    "t5_v1_1_base.flan": Repository("google/flan-t5-base"),
    "t5_v1_1_large.flan": Repository("google/flan-t5-large"),
    "mamba_130m.pile": Repository("state-spaces/mamba-130m-hf"),
    "mamba_370m.pile": Repository("state-spaces/mamba-370m-hf"),
    "mamba_790m.pile": Repository("state-spaces/mamba-790m-hf"),
    "mamba_1_4b.pile": Repository("state-spaces/mamba-1.4b-hf", file=INDEX),
    "mamba_2_8b.pile": Repository("state-spaces/mamba-2.8b-hf", file=INDEX),
}
"""`preset.tag` -> where it is; the first of a preset is its default."""

PICKLED: Mapping[str, str] = {
    "google/bert_uncased_L-4_H-256_A-4": "bert_mini",
    "google/bert_uncased_L-4_H-512_A-8": "bert_small",
    "google/bert_uncased_L-8_H-512_A-8": "bert_medium",
    "karpathy/tinyllamas": "llama2c_15m",
    "google/t5-v1_1-small": "t5_v1_1_small",
    "google/t5-v1_1-base": "t5_v1_1_base",
    "google/t5-v1_1-large": "t5_v1_1_large",
    "state-spaces/mamba2-130m": "mamba2_130m",
    "state-spaces/mamba2-370m": "mamba2_370m",
    "state-spaces/mamba2-780m": "mamba2_780m",
    "state-spaces/mamba2-1.3b": "mamba2_1_3b",
    "state-spaces/mamba2-2.7b": "mamba2_2_7b",
}
"""Repositories that one would look for -> their preset; on their main branch they have pickled weights alone."""


def published_text(architecture: Architecture) -> Iterator[Weights | str]:
    """The cards of an architecture; for repositories that have none, a sentence that says why."""
    decided: set[str] = set()
    for name, where in REPOSITORIES.items():
        preset, _, tag = name.partition(".")
        if preset not in architecture.names():
            continue
        config = replace(architecture.preset(preset), where.config, name)
        foreign_tensors(on_meta(architecture, config), "transformers")  # refuses what that has no network of
        yield Weights(
            preset=preset,
            tag=tag,
            source=_source(where),
            config=where.config,
            license=where.license,
            commercial=COMMERCIAL.get(where.license),
            tokenizer=TOKENIZER,
            default=preset not in decided,
        )
        decided.add(preset)
    for name, preset in PICKLED.items():
        if preset in architecture.names():
            yield f"{preset}: {name} has pickled weights alone"


def _source(where: Repository) -> dict[str, Any]:
    """Where it is, as a card says it."""
    pin = {"pinned": False} if where.pin is None else {"revision": where.pin[0], "sha256": where.pin[1]}
    beside = {"gated": True} if where.gated else {}
    beside |= {"tokenizer": where.tokenizer} if where.tokenizer else {}
    return {"repo": where.name, "file": where.file, **pin, **beside}
