"""Where a model runs that answers, as one small interface: the same questions can be asked of any of them."""

from collections.abc import Sequence
from typing import Literal, Protocol

from ..choose import Choices
from ..generate import Answers
from ..prompts import Prompt

Normalization = Literal["sum", "characters"]


class Engine(Protocol):
    """A model that answers prompts: in this process, in vLLM, or behind an endpoint.

    Whatever has these four members can be asked, such as a client of one's own for another kind of server.
    """

    @property
    def at_once(self) -> int:
        """How many prompts are handed on before their answers are kept."""

    def lengths(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]] | None = None,
        *,
        max_new_tokens: int = 0,
        delimiter: str = " ",
    ) -> list[int]:
        """Say how long prompts are, so that the longest come first; refuse what is known not to fit.

        Args:
            prompts: Texts, or conversations for the chat template.
            choices: The choices of each prompt, where the likeliest is to be chosen. Defaults to None: an answer is
                to be generated.
            max_new_tokens: Longest answer, in tokens.
            delimiter: Stands between prompt and choice.

        Returns:
            A length for each prompt, in tokens, or in characters where only a server knows the tokens.

        Raises:
            InputError: A prompt or a choice that cannot be read, or does not fit into the context of the model.
        """

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> Answers:
        """Give the greedy answer to each prompt, as `generate_answers` does.

        Args:
            prompts: Texts, or conversations for the chat template.
            max_new_tokens: Longest answer, in tokens, the end token included.

        Returns:
            `Answers`, in the order of the prompts; a figure that an engine does not know is nan, or -1 as a count.

        Raises:
            ConfigurationError: `max_new_tokens` is no number of 1 or more.
            InputError: No prompts, or one that cannot be read.
        """

    def choose(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]],
        *,
        normalization: Normalization = "sum",
        delimiter: str = " ",
    ) -> Choices:
        """Choose for each prompt the likeliest of its choices, as `choose_answers` does.

        Args:
            prompts: Texts, or conversations for the chat template.
            choices: The choices of each prompt, as many as it has.
            normalization: "sum" takes the log-likelihood, "characters" divides it by the characters of the choice.
                Defaults to "sum".
            delimiter: Stands between prompt and choice. Defaults to a space; for conversations give "".

        Returns:
            `Choices`, in the order of the prompts.

        Raises:
            ConfigurationError: A `normalization` that does not exist.
            InputError: No prompts, not one list of choices for each, or a choice that adds no token.
        """
