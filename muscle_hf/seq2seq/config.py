"""The options of the compatibility trainer for encoder-decoders."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from transformers import Seq2SeqTrainingArguments

from ..errors import ConfigurationError, unknown_option
from ..flips.eval_metrics import check_min_accuracy, direction_of_best
from ..losses.presets import apply_preset, needs_unlabelled
from ..losses.strategy import StrategyOptions
from ..training.config import LOSS_IMPLEMENTATIONS
from ..training.loss.product import check_product
from ..training.loss.two_goals import check_two_goals
from ..training.options.arguments import PLACED, RENAMED, checks_arguments
from ..training.options.contradictions import refuse_contradictions_of_cache
from ..training.options.precision import bf16_of_device
from ..training.options.secrets import WithoutTokens
from ..training.refusals import refuse_options_without
from .contrast_options import ContrastOptions

TEACHER_CACHES = {
    "none": "the teachers are asked at each step",
    "sampled": "k drawn tokens of both: without bias",
    "topk": "the k likeliest tokens of both, without what is left out",
    "hidden": "what the LM heads of both read: exact",
}

# Arguments of the trainer that are tried here.
_OF_TRAINER = (*PLACED, "flips_dataset", "quantization_config")
_ADVICE = RENAMED | {
    "max_length": "write max_prompt_length or max_completion_length",
    "max_source_length": "write max_prompt_length",
    "max_target_length": "write max_completion_length",
    "alignment": "encoder-decoders need one tokenizer on both sides",
}
# Options of the parent that the compatibility loss, or greedy answers to flips_dataset, would ignore.
_IGNORED = {
    "label_smoothing_factor": "teachers take the place of smoothed labels",
    "predict_with_generate": "evaluations give the compatibility loss; flips_dataset asks for generated answers",
    "generation_max_length": "answers to flips_dataset have flips_max_new_tokens at most",
    "generation_num_beams": "answers to flips_dataset are greedy",
    "generation_config": "answers to flips_dataset are greedy",
    "sortish_sampler": "transformers has no such sampler any more",
    "use_liger_kernel": "its kernels are not tried on encoder-decoders here",
    "torch_compile": "layers of encoder-decoders are not compiled here",
}


@checks_arguments(_ADVICE, elsewhere=lambda: {"CompatibilitySeq2SeqTrainer({}=…)": _OF_TRAINER})
@dataclass(repr=False)
class CompatibilitySeq2SeqConfig(WithoutTokens, StrategyOptions, ContrastOptions, Seq2SeqTrainingArguments):  # type: ignore[misc]
    """Options of [`CompatibilitySeq2SeqTrainer`]: [`transformers.Seq2SeqTrainingArguments`], and the method's.

    The defaults of the method's options are those of MUSCLE (arXiv 2407.09435, section 4.1), as in
    [`CompatibilityConfig`]; its tokens are the completion's.

    Args:
        preset: "focal" takes mask "none", focal_beta 5.0 and cross_entropy_weight 0.5; another option that is not at
            its default wins. The other presets need unlabelled prompts, and are refused. Defaults to None: the paper's
            method.
        mask: Which tokens learn from `teacher`; the others learn from the new model. "student_wrong" (the method,
            default), "new_wrong", "old_right", "old_better", "token_likelihood", "sequence_likelihood",
            "negative_flip", or "none" (every token). A function of your own goes to the trainer as `mask`.
        divergence: How far the student is from its teacher: "forward_kl" (the method, default), "reverse_kl",
            "jensen_shannon" or "logit_difference_inhibition".
        teacher: What the marked tokens learn from: "old" (the method, default), "new", "ensemble" (mean probability),
            "log_ensemble" (mean logit), "more_confident", "product" (of both models' probabilities), or
            "perpendicular" (the new model, and what the old one's logits have that these do not; experimental).
        temperature: Divides all logits in the divergence. Defaults to 2.0.
        scale_by_temperature_squared: Multiply the divergence by T^2. Defaults to False, as in the paper.
        cross_entropy_weight: 1 - lambda of Eq. 5, in [0, 1): the weight of the cross-entropy on the gold tokens; the
            compatibility loss gets the rest. Defaults to 0.0.
        jensen_shannon_beta: Of the divergence "jensen_shannon". Defaults to 0.5.
        focal_alpha: Weight of every token's divergence. Defaults to 1.0.
        focal_beta: Added to it where the old model is right; PCT takes 5. Defaults to 0.0: no focus.
        product_temperatures: Those of the old and the new model in "product". Defaults to None: fitted before
            training, by the likelihood of the gold tokens of `eval_dataset`.
        teacher_weight: How much of the old model's logits the teacher "perpendicular" adds. Defaults to 1.0.
        gradient_conflict: As in [`CompatibilityConfig`]; experimental. Defaults to "sum".
        log_gradient_cosine: As in [`CompatibilityConfig`]. Defaults to False.
        weight_column: A column of the training set with a number for each row, which multiplies the row's loss, but
            for the contrastive term, which is of all rows of a batch together. Defaults to None.
        student_rank: Rank of the compatibility adapter, larger than the task adapter's, whose function it starts
            with. Defaults to None: as it is.
        full_fine_tune: The new model is a fully fine-tuned one without adapter, and all of its weights are trained.
            A copy of them is kept in memory as the new teacher. Defaults to False.

        > Parameters that control the contrastive term (experimental, see docs/encoder-decoders.md)

        contrastive_weight: Weight of the contrastive loss of CLAPS (arXiv 2012.07280), `muscle_hf.losses.contrastive`,
            which is added to the loss of training. Its projection is thrown away afterwards; `max_grad_norm` does not
            clip it. Defaults to 0.0: none.
        contrastive_temperature: Divides its cosines. Defaults to 0.1.
        negative_perturbation: How far an imposter is from its target, in mean norms of decoder states. Defaults to
            1.0.
        positive_perturbation: Both moves of a distant target, likewise. Defaults to 3.0.
        contrast_flips: The training set's texts `rejected` (of the new model, wrong) and `chosen` (of the old one,
            right), where it has them, are further negatives and positives of their rows. Defaults to False.

        > Parameters that control the data

        max_prompt_length: Longest prompt in tokens. What is cut off is counted in a warning; an end token stays.
            Defaults to None: what the model has positions for, and with relative positions no limit.
        max_completion_length: Longest completion in tokens, likewise; one that is cut loses its end token, so that
            the model does not learn to stop there.

        > Parameters that control the models

        model_init_kwargs: Keyword arguments for `from_pretrained`, used where `model` is an id or a path. Defaults to
            None.
        old_model_init_kwargs: Likewise for `old_model`. Defaults to None: the same `dtype`, `attn_implementation` and
            `quantization_config` as in `model_init_kwargs`.

        > Parameters that control memory and speed

        loss_implementation: "plain" takes the full logits of all three models; "chunked" works from what the decoder
            hands to the LM head and holds the logits of a few tokens at a time, with the same result up to rounding.
            "auto" (default) is plain where the logits of a batch are small (64 MiB), and chunked above.
        teacher_cache: "sampled", "topk" or "hidden" computes the targets of both teachers once, before training, as
            in [`CompatibilityConfig`]. "none" (default) asks the teachers at each step.
        teacher_cache_dir: Folder of the cache, or an address of fsspec. Defaults to `teacher_cache` in the output
            folder.
        teacher_cache_k: Tokens of the "sampled" or "topk" cache. Defaults to 64.

        > Parameters that control flips in the loop

        flips_max_new_tokens: Longest answer to a row of `flips_dataset`, in tokens. Defaults to 256.
        min_accuracy: A checkpoint whose `eval_accuracy` on `flips_dataset` is lower is never the best one. Defaults to
            None.

    > [!NOTE]
    > These parameters have default values different from [`transformers.Seq2SeqTrainingArguments`]:
    > - `learning_rate`: Defaults to `1e-4` instead of `5e-5` (Table 8 of the paper).
    > - `greater_is_better`: Defaults to `False` also where `metric_for_best_model` names a rate of negative flips.

    Raises:
        ConfigurationError: A name that does not exist, a number out of range, options of which one would be ignored,
            an option of the parent that would be ignored (such as `predict_with_generate`), or what the parent
            refuses.
        ArgumentError: An option that does not exist, with what to write instead.

    Example:
        >>> CompatibilitySeq2SeqConfig(output_dir="out", use_cpu=True, report_to="none").temperature
        2.0
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [
        *Seq2SeqTrainingArguments._VALID_DICT_FIELDS,
        "model_init_kwargs",
        "old_model_init_kwargs",
    ]
    # What is asked of every config, and is no option of encoder-decoders.
    alignment: ClassVar[str] = "tokens"
    max_length: ClassVar[None] = None
    old_endpoint: ClassVar[None] = None
    packing: ClassVar[bool] = False
    eval_packing: ClassVar[bool] = False
    unlabelled_ratio: ClassVar[None] = None
    unlabelled_teacher: ClassVar[str] = "old"

    learning_rate: float = field(default=1e-4, metadata={"help": "The initial learning rate for AdamW."})
    weight_column: str | None = field(
        default=None, metadata={"help": "Column of the training set whose number multiplies the loss of its row."}
    )
    student_rank: int | None = field(
        default=None, metadata={"help": "Rank of the compatibility adapter, larger than the task adapter's."}
    )
    full_fine_tune: bool = field(
        default=False, metadata={"help": "The new model has no adapter, and all of its weights are trained."}
    )
    max_prompt_length: int | None = field(
        default=None, metadata={"help": "Longest prompt in tokens; by default what the model has positions for."}
    )
    max_completion_length: int | None = field(
        default=None, metadata={"help": "Longest completion in tokens; by default what the model has positions for."}
    )
    model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for `from_pretrained` of the new model."}
    )
    old_model_init_kwargs: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Keyword arguments for `from_pretrained` of the old model."}
    )
    loss_implementation: str = field(
        default="auto",
        metadata={
            "help": "`chunked` never holds the logits of more than a few tokens.",
            "choices": list(LOSS_IMPLEMENTATIONS),
        },
    )
    teacher_cache: str = field(
        default="none",
        metadata={"help": "Compute both teachers' targets once and keep them.", "choices": list(TEACHER_CACHES)},
    )
    teacher_cache_dir: str | None = field(
        default=None,
        metadata={"help": "Folder or fsspec address of the teacher cache; by default in the output folder."},
    )
    teacher_cache_k: int = field(default=64, metadata={"help": "Tokens drawn by the `sampled` cache, kept by `topk`."})
    flips_max_new_tokens: int = field(
        default=256, metadata={"help": "Longest answer to a row of the flips data set, in tokens."}
    )
    min_accuracy: float | None = field(
        default=None, metadata={"help": "A checkpoint with a lower `eval_accuracy` is never the best one."}
    )

    def __post_init__(self) -> None:
        """Check the options before any model is loaded."""
        for name, reason in _IGNORED.items():
            if getattr(self, name):
                raise ConfigurationError(f"{name}={getattr(self, name)!r} would be ignored: {reason}. Leave it out.")
        if needs_unlabelled(self.preset):
            raise ConfigurationError(
                f"preset={self.preset!r} needs unlabelled prompts, which encoder-decoders do not take yet. Take "
                'preset="focal", or leave it out.'
            )
        apply_preset(self)
        self.check_contrast()  # first: what rules a pair of options out comes before advice on one of them
        self.strategy()
        for name, known in (("loss_implementation", LOSS_IMPLEMENTATIONS), ("teacher_cache", TEACHER_CACHES)):
            if getattr(self, name) not in known:
                raise unknown_option(name, getattr(self, name), known)
        counts = ("student_rank", "teacher_cache_k", "flips_max_new_tokens")
        for name in (*counts, "max_prompt_length", "max_completion_length"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"{name}={value!r} must be an int of 1 or more.")
        if self.full_fine_tune and self.student_rank is not None:
            raise ConfigurationError(
                f"student_rank={self.student_rank} needs an adapter; full_fine_tune=True has none."
            )
        check_product(self)
        check_two_goals(self)
        refuse_contradictions_of_cache(self)
        self.greater_is_better: bool | None = direction_of_best(self.metric_for_best_model, self.greater_is_better)
        bf16_of_device(self.bf16, fp16=self.fp16, use_cpu=self.use_cpu)
        super().__post_init__()
        # Memory is pinned for a GPU; without one, torch only warns that it does nothing.
        self.dataloader_pin_memory: bool = self.dataloader_pin_memory and self.device.type != "cpu"
        check_min_accuracy(self.min_accuracy, self.metric_for_best_model)

    def refuse_options_without_data(
        self, *, flips_dataset: bool, unlabelled_dataset: bool = False, asks_old_model: bool = False
    ) -> None:
        """Refuse an option about data that are not there, since it would be ignored, and data that cannot be taken.

        `asks_old_model`, as in [`CompatibilityConfig`], changes nothing: no endpoint answers in the old model's place.
        """
        if unlabelled_dataset:
            raise ConfigurationError(
                "unlabelled_dataset is not for encoder-decoders yet: let the old model answer the prompts "
                "(generate_answers), and add them as rows."
            )
        if not flips_dataset:
            names = ("flips_max_new_tokens", "min_accuracy")
            refuse_options_without(self, names, "flips_dataset", " (--measure-flips of muscle-hf update)")
