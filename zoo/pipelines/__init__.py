"""Models with all that they need around them: files in, words or pictures out."""

from zoo.pipelines.embed import embed
from zoo.pipelines.picture import picture
from zoo.pipelines.predict import Prediction, predict
from zoo.pipelines.sample import sample
from zoo.pipelines.text import complete
from zoo.pipelines.zero_shot import embed_images, embed_texts, zero_shot

__all__ = [
    "Prediction", "complete", "embed", "embed_images", "embed_texts", "picture", "predict", "sample", "zero_shot",
]  # fmt: skip
