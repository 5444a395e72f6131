"""The new and the old classifier of an update, loaded, matched class by class, and ready to read the same texts."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..card.lineage import Lineage, commit_of_base
from ..errors import ConfigurationError, ModelMismatchError
from ..models.adapters import Model, refuse_wrong_sides
from ..models.placement import as_options, options_of_old
from ..models.tokenizers import load_tokenizer
from ..training.rows.ids import embeddings_of
from .config import CompatibilityClassifierConfig
from .data import Side, encodes_alike
from .labels import ClassMap, class_names, match_classes
from .models import align_padding, classifier_task, forward_arguments, load_classifier, longest_input

logger = logging.getLogger(__name__)

Classifier: TypeAlias = PreTrainedModel | PeftModel


@dataclass(frozen=True)
class ClassifierPair:
    """Two classifiers of one task."""

    student: Classifier
    old: Classifier
    task: str  # "sequence" or "token"
    classes: ClassMap
    new_side: Side
    old_side: Side
    lineage: Lineage

    @property
    def reads_alike(self) -> bool:
        """Whether both read a text from the same ids."""
        return encodes_alike(self.new_side, self.old_side)

    @classmethod
    def load(
        cls,
        new: tuple[Model, str | Path | None, PreTrainedTokenizerBase | None],
        old: tuple[Model, str | Path | None, PreTrainedTokenizerBase | None],
        args: CompatibilityClassifierConfig,
        quantization_config: Any = None,
    ) -> "ClassifierPair":
        """Load both classifiers, and refuse what cannot be trained against each other.

        Of either side: what the user passed as model, adapter and tokenizer. The quantization is the new base's.
        """
        refuse_wrong_sides(new[:2], old[:2], change="training the one")
        new_kwargs = as_options(args.model_init_kwargs)
        if quantization_config is not None:
            new_kwargs["quantization_config"] = quantization_config
        old_kwargs = options_of_old(as_options(args.old_model_init_kwargs), new_kwargs)
        student = load_classifier(new[0], new[1], role="new", label_names=args.new_label_names, init_kwargs=new_kwargs)
        old_model = load_classifier(
            old[0], old[1], role="old", label_names=args.old_label_names, init_kwargs=old_kwargs
        )
        task = classifier_task(student, "model")
        if classifier_task(old_model, "old_model") != task:
            raise ModelMismatchError(
                f"model is a {task} classifier and old_model is not: one gives a class for each text, the other one "
                "for each token."
            )
        classes = match_classes(
            class_names(student.config, args.new_label_names, role="new"),
            class_names(old_model.config, args.old_label_names, role="old"),
        )
        logger.info(str(classes))
        if args.new_label_names is not None:
            # So that the student is saved with them, and the next update need not ask again.
            student.config.id2label = dict(enumerate(classes.new))
            student.config.label2id = {name: index for index, name in enumerate(classes.new)}
        _make_trainable(student)
        new_tokenizer = new[2] or load_tokenizer(student, new_kwargs, *new[:2])
        old_tokenizer = old[2] or load_tokenizer(old_model, old_kwargs, *old[:2])
        if hasattr(old_model.config, "use_cache"):
            old_model.config.use_cache = False
        return cls(
            student,
            old_model,
            task,
            classes,
            _side("new", student, new_tokenizer, args.max_length),
            _side("old", old_model, old_tokenizer, args.max_length),
            Lineage.of(
                new=student,
                old=old_model,
                new_name=new[1] or new[0],
                old_name=old[1] or old[0],
                new_base_revision=commit_of_base(student, new[0], new_kwargs.get("revision")),
                old_base_revision=commit_of_base(old_model, old[0], old_kwargs.get("revision")),
            ),
        )


def _make_trainable(student: Any) -> None:
    if isinstance(student, PeftModel):
        # PEFT loads adapters frozen by default; the student's is the one that is trained.
        student.set_adapter(student.active_adapter)
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ConfigurationError(
            "No parameter of model requires a gradient, so nothing would be trained. Unfreeze it, or pass an adapter."
        )


def _side(role: str, model: Any, tokenizer: PreTrainedTokenizerBase | None, max_length: int | None) -> Side:
    if tokenizer is None:
        option = {"new": "processing_class", "old": "old_processing_class"}[role]
        raise ConfigurationError(
            f"No tokenizer lies beside the {role} model or its adapter; pass it as {option}, also where both models "
            "have the same one."
        )
    align_padding(model, tokenizer, role=role)
    longest = longest_input(model, tokenizer, max_length, role=role)
    return Side(role, tokenizer, longest, forward_arguments(model), embeddings_of(model))
