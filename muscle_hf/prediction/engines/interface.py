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

        With choices they are to be chosen from, otherwise so many tokens generated.
        """

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int) -> Answers:
        """Give the greedy answer to each prompt, as `generate_answers` does."""

    def choose(
        self,
        prompts: Sequence[Prompt],
        choices: Sequence[Sequence[str]],
        *,
        normalization: Normalization = "sum",
        delimiter: str = " ",
    ) -> Choices:
        """Choose for each prompt the likeliest of its choices, as `choose_answers` does."""
