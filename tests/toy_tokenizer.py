"""A tokenizer of the tokenizers library, small enough to be learnt in a moment."""

import sysconfig
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers


def learnt(*special_tokens):
    """A byte-level BPE of 400 tokens, learnt from a file of the standard library; the special ones are the first."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(special_tokens), show_progress=False, initial_alphabet=alphabet
    )
    made.train([str(Path(sysconfig.get_path("stdlib")) / "argparse.py")], trainer)
    return made
