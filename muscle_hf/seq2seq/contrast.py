"""The contrastive term of a training (CLAPS): its projection, the texts of flips, and the loss of a batch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..errors import ConfigurationError, InputError
from ..losses.contrastive import Projection, States, contrastive_loss
from ..losses.logits import IGNORE_INDEX
from ..models.adapters import base_model
from ..models.hidden_states import last_hidden_states, project, returning_hidden_states
from .contrast_options import ContrastOptions
from .data import FLIP_TEXTS, TextEncoder

_FILE = "contrastive_projection.safetensors"


def encoded_flips(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[list[int]]]:
    """Encode the texts of flips that a training set has; a row without any has no tokens.

    A `chosen` text that is the completion itself adds nothing, and is left out.
    """
    texts = [column for column in FLIP_TEXTS if column in dataset.column_names]
    if not texts or not {"prompt", "completion"} <= {*dataset.column_names}:
        raise InputError(
            f"contrast_flips needs the columns prompt, completion and rejected, chosen or both, with None where "
            f"nothing flipped; the train set has {sorted(dataset.column_names)}. preference_pairs() of a comparison "
            "gives them."
        )
    if len(texts) == len(FLIP_TEXTS):
        for number, (wrong, right) in enumerate(zip(dataset["rejected"], dataset["chosen"], strict=True)):
            if wrong is not None and wrong == right:
                raise InputError(
                    f"Row {number} of the train set: rejected and chosen are one text, which cannot be wrong and "
                    "right at once. Write None for both where nothing flipped."
                )
    encoder, encoded = TextEncoder(tokenizer, "train"), {}
    for column in texts:
        _refuse_texts(column, dataset[column], dataset["completion"])
        wanted = [
            number
            for number, (text, completion) in enumerate(zip(dataset[column], dataset["completion"], strict=True))
            if text is not None and text != completion
        ]
        rows: list[list[int]] = [[] for _ in range(len(dataset))]
        if wanted:
            few = dataset.select(wanted)
            tokens = encoder({"prompt": few["prompt"][:], "completion": few[column][:]})["labels"]
            for number, of_row in zip(wanted, tokens, strict=True):
                rows[number] = of_row
        encoded[FLIP_TEXTS[column]] = rows
    if not any(of_row for rows in encoded.values() for of_row in rows):
        raise InputError(
            "contrast_flips would be ignored: no row has a text in rejected, or one in chosen that is not its "
            "completion. Where nothing flips, leave it out."
        )
    return encoded


def _refuse_texts(column: str, texts: Iterable[Any], completions: Iterable[Any]) -> None:
    """Refuse texts of flips that are of another kind than completions, or wrong and right at once."""
    for number, (text, completion) in enumerate(zip(texts, completions, strict=True)):
        if text is not None and type(text) is not type(completion):
            raise InputError(
                f"Row {number} of the train set: {column} is of the kind {type(text).__name__}, and the completion of "
                f"the kind {type(completion).__name__}; give texts for both, or messages for both."
            )
        if column == "rejected" and text == completion:
            raise InputError(
                f"Row {number} of the train set: rejected is the completion itself, which is right. Write None where "
                "nothing flipped."
            )


class Contrast:
    """The contrastive loss of the batches of a training, and the projection that it trains and throws away."""

    def __init__(self, student: Any, options: ContrastOptions, *, seed: int) -> None:
        """Make the projection."""
        base = base_model(student)
        width = getattr(base.config, "hidden_size", None)
        if not getattr(base.config, "is_encoder_decoder", False) or width is None:
            raise ConfigurationError(
                f"{type(base).__name__} has no encoder and decoder of one width, whose states contrastive_weight "
                "compares. Take a model such as T5 or BART, or leave contrastive_weight out."
            )
        self.student, self.options = student, options
        self.projection = Projection(int(width), seed=seed).to(base.device)
        self._sum, self._rows = 0.0, 0

    def __call__(
        self, outputs: Any, batch: dict[str, Any], further: dict[str, Tensor], normalizer: Tensor | float | None
    ) -> Tensor:
        """Return the loss of a batch, weighed and ready to be added to the others.

        Args:
            outputs: Of the student, with what its LM head reads (`last_hidden_states`).
            batch: What it was asked.
            further: Tokens of the texts of flips, see `FLIP_TEXTS`; rows without any are -100.
            normalizer: The trained tokens of the whole optimizer step; None for those of this batch.
        """
        options, labels = self.options, batch["labels"]
        encoded = outputs.encoder_last_hidden_state
        trained = labels != IGNORE_INDEX
        said = {name: self._states(encoded, batch, tokens) for name, tokens in further.items()}
        losses = contrastive_loss(
            States(encoded, batch["attention_mask"].bool()),
            States(last_hidden_states(outputs), trained),
            labels,
            projection=self.projection,
            head=lambda states: project(self.student, states),
            temperature=options.contrastive_temperature,
            negative_perturbation=options.negative_perturbation,
            positive_perturbation=options.positive_perturbation,
            negative=said.get(FLIP_TEXTS["rejected"]),
            positive=said.get(FLIP_TEXTS["chosen"]),
        )
        self._sum += float(losses.detach().sum())
        self._rows += len(losses)
        # A batch counts in its step as its tokens do, as in the loss of the tokens.
        share = 1.0 if normalizer is None else trained.sum() / normalizer
        return options.contrastive_weight * losses.mean() * share

    def _states(self, encoded: Tensor, batch: dict[str, Any], labels: Tensor) -> States | None:
        """Let the decoder read texts for the rows that have them."""
        mask = labels != IGNORE_INDEX
        rows = mask.any(1).nonzero()[:, 0]
        if not len(rows):
            return None
        read = base_model(self.student).prepare_decoder_input_ids_from_labels(labels[rows])
        with returning_hidden_states(self.student, alone=True) as more:
            outputs = self.student(
                encoder_outputs=(encoded[rows],),
                attention_mask=batch["attention_mask"][rows],
                decoder_input_ids=read,
                **more,
            )
        states = last_hidden_states(outputs)
        every = states.new_zeros(len(labels), *states.shape[1:])
        return States(every.index_copy(0, rows, states), mask)

    def figures(self) -> dict[str, float]:
        """Return the mean loss since this was last asked."""
        mean = {"contrastive_loss": self._sum / self._rows} if self._rows else {}
        self._sum, self._rows = 0.0, 0
        return mean

    def add_to(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimizer train the projection."""
        optimizer.add_param_group({"params": [*self.projection.parameters()], "weight_decay": 0.0})

    def save(self, checkpoint: Path) -> None:
        """Keep the projection in a checkpoint, so that what goes on from there is the same training."""
        save_file(self.projection.state_dict(), checkpoint / _FILE)

    def take_up(self, checkpoint: Path) -> None:
        """Go on with the projection of a checkpoint."""
        file = checkpoint / _FILE
        if not file.is_file():
            raise InputError(
                f"{checkpoint} has no projection of a contrastive loss, so it is of a training without one. Leave "
                "contrastive_weight out, or begin anew."
            )
        self.projection.load_state_dict(load_file(file))


class KeepsProjection(TrainerCallback):  # type: ignore[misc]  # transformers is taken as untyped
    """Empties the projection's gradients, which the trainer does for its model alone, and saves it in checkpoints.

    It stands before what seals checkpoints.
    """

    def __init__(self) -> None:
        """Wait for the contrast, which needs a model that is where it is trained."""
        self.contrast: Contrast | None = None

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Empty them."""
        if self.contrast is not None:
            self.contrast.projection.zero_grad()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save it."""
        if self.contrast is not None and state.is_world_process_zero:
            self.contrast.save(Path(args.output_dir) / f"checkpoint-{state.global_step}")
