"""The model in this process: `generate_answers` and `choose_answers`, with a model and a batch size."""

from collections.abc import Sequence
from dataclasses import dataclass

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..choose import Choices, choose_answers
from ..generate import Answers, generate_answers
from ..prompts import Prompt, encode_choices_for, encode_for
from .interface import Normalization


@dataclass(frozen=True)
class TransformersEngine:
    """A causal language model of transformers, or a PEFT model, with its tokenizer.

    Args:
        model: The model to ask; left as it was.
        tokenizer: Its tokenizer.
        batch_size: Sequences to ask at once.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from muscle_hf.demo.task import BASE_V1, OLD_ADAPTER, load_base
        >>> model = PeftModel.from_pretrained(load_base(BASE_V1), OLD_ADAPTER)
        >>> engine = TransformersEngine(model, AutoTokenizer.from_pretrained(BASE_V1), batch_size=8)
        >>> engine.generate(["transfer ten dollars to my savings account\\n"], max_new_tokens=12).texts
        ['transfer']
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int = 32

    @property
    def at_once(self) -> int:
        """A batch."""
        return self.batch_size

    def lengths(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]] | None = None,
        *,
        max_new_tokens: int = 0,
        delimiter: str = " ",
    ) -> list[int]:
        """Count the tokens of prompts; arguments, result and what is refused are those of [`Engine`]."""
        if choices is None:
            return [len(row) for row in encode_for(self.model, self.tokenizer, prompts, max_new_tokens)]
        options = encode_choices_for(self.model, self.tokenizer, prompts, choices, delimiter)
        return [len(of_prompt[0].context) for of_prompt in options]

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> Answers:
        """Generate greedy answers; arguments, result and what is refused are those of [`Engine`]."""
        return generate_answers(
            self.model,
            self.tokenizer,
            prompts,
            max_new_tokens=max_new_tokens,
            batch_size=self.batch_size,
            show_progress=False,
        )

    def choose(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]],
        *,
        normalization: Normalization = "sum",
        delimiter: str = " ",
    ) -> Choices:
        """Choose the likeliest; arguments, result and what is refused are those of [`Engine`]."""
        return choose_answers(
            self.model,
            self.tokenizer,
            prompts,
            choices,
            normalization=normalization,
            delimiter=delimiter,
            batch_size=self.batch_size,
            show_progress=False,
        )
