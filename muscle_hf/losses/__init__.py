"""The compatibility loss, its masks and divergences: tensors in, tensors out."""

from ..packages import required

with required("train", "muscle_hf.losses"):
    from .compatibility import CompatibilityLoss, compatibility_loss
    from .contrastive import States, contrastive_loss
    from .coupled_pairs import coupled_pair_loss
    from .divergences import DIVERGENCES, Divergence
    from .logits import IGNORE_INDEX, next_token_labels
    from .masks import MASKS, Mask, ModelScores, Scores
    from .strategy import TEACHERS, Strategy

__all__ = [
    "DIVERGENCES",
    "IGNORE_INDEX",
    "MASKS",
    "TEACHERS",
    "CompatibilityLoss",
    "Divergence",
    "Mask",
    "ModelScores",
    "Scores",
    "States",
    "Strategy",
    "compatibility_loss",
    "contrastive_loss",
    "coupled_pair_loss",
    "next_token_labels",
]
