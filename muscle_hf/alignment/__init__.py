"""Two tokenizers: which tokens are the same, which stretches of text both cut alike, and a loss for these."""

from ..packages import required

with required("train", "muscle_hf.alignment"):
    from .chunks import PlacedTokens, find_chunks, place_tokens
    from .encoding import AlignmentSummary, ChunkEncoder
    from .loss import OldLogits, chunk_compatibility_loss
    from .vocabulary import shared_tokens
    from .vocabulary_map import VocabularyMap, check_same_vocabulary

__all__ = [
    "AlignmentSummary",
    "ChunkEncoder",
    "OldLogits",
    "PlacedTokens",
    "VocabularyMap",
    "check_same_vocabulary",
    "chunk_compatibility_loss",
    "find_chunks",
    "place_tokens",
    "shared_tokens",
]
