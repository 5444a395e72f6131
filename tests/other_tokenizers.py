"""Tiny tokenizers of other kinds than `tiny_models.tiny_tokenizer`, a byte-level BPE. No network.

They are written down and not trained: the trainers of unigram and WordPiece models give another vocabulary each time.
"""

from collections.abc import Sequence

from tiny_models import BEGINNING, END, TEXTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

UNKNOWN, BERT_UNKNOWN, BERT_END = "<unk>", "[UNK]", "[END]"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
LETTERS = sorted(set("".join(TEXTS)) - {" "})
# Whole and parts of words, "▁" for a space before them.
PIECES = ("▁the", "▁my", "▁fre", "eze", "▁car", "▁acc", "ount", "ing", "▁say")


def sentencepiece_tokenizer(pieces: Sequence[str] = PIECES) -> PreTrainedTokenizerFast:
    """Return a BPE in the manner of Llama 2: "▁" for spaces, one before each text, bytes for unknown characters."""
    prefixes = list(dict.fromkeys(piece[:end] for piece in pieces for end in range(2, len(piece) + 1)))
    tokens = [UNKNOWN, BEGINNING, END, *BYTES, "▁", *LETTERS, *prefixes]
    tokenizer = Tokenizer(
        models.BPE(
            {token: number for number, token in enumerate(tokens)},
            [(prefix[:-1], prefix[-1]) for prefix in prefixes],
            byte_fallback=True,
            unk_token=UNKNOWN,
            fuse_unk=True,
        )
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BEGINNING} $A", special_tokens=[(BEGINNING, 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, bos_token=BEGINNING, eos_token=END, pad_token=END
    )


def unigram_tokenizer(pieces: Sequence[str] = PIECES) -> PreTrainedTokenizerFast:
    """Return a unigram model in the manner of T5, which normalizes characters (NFKC) and has an unknown token."""
    scored = [
        (UNKNOWN, 0.0),
        (END, 0.0),
        *((token, -6.0) for token in ["▁", *LETTERS]),
        *((one, -7.0) for one in pieces),
    ]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=0))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, pad_token=END)


def wordpiece_tokenizer(pieces: Sequence[str] = PIECES) -> PreTrainedTokenizerFast:
    """Return a WordPiece in the manner of BERT: lower case, no white space, "##" inside words."""
    letters = sorted({letter.lower() for letter in LETTERS})
    parts = [piece[1:] if piece.startswith("▁") else f"##{piece}" for piece in pieces]
    tokens = [BERT_UNKNOWN, BERT_END, *letters, *(f"##{letter}" for letter in letters), *parts]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=BERT_UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=BERT_UNKNOWN, eos_token=BERT_END, pad_token=BERT_END
    )
