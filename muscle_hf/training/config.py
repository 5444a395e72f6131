"""The options of the compatibility trainer."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from trl import SFTConfig

from ..errors import ConfigurationError, unknown_option
from ..flips.eval_metrics import check_min_accuracy, direction_of_best
from ..losses.presets import apply_preset
from ..losses.strategy import StrategyOptions
from .loss.product import check_product
from .loss.two_goals import check_two_goals
from .old_endpoint import check_old_endpoint
from .options.arguments import PLACED, RENAMED, checks_arguments
from .options.contradictions import liger_without_head, refuse_contradictions
from .options.precision import bf16_of_device
from .options.secrets import WithoutTokens
from .refusals import refuse_options_without
from .rows.unlabelled import UNLABELLED_TEACHERS, check_ratio

LOSS_IMPLEMENTATIONS = {"auto": "by size", "plain": "full logits", "chunked": "a few tokens at a time"}
TEACHER_CACHES = {
    "none": "the teachers are asked at each step",
    "sampled": "k drawn tokens of both: without bias",
    "topk": "the k likeliest tokens of both, without what is left out",
    "hidden": "the hidden states of both: exact",
    "chunks": "the old model's scores of chunks, with two tokenizers",
}
ALIGNMENTS = {"tokens": "one vocabulary", "chunks": "two tokenizers"}

# Arguments of the trainer that are tried here.
_OF_TRAINER = (*PLACED, "formatting_func", "unlabelled_dataset", "flips_dataset", "quantization_config")


@checks_arguments(RENAMED, elsewhere=lambda: {"CompatibilityTrainer({}=…)": _OF_TRAINER})
@dataclass(repr=False)
class CompatibilityConfig(WithoutTokens, StrategyOptions, SFTConfig):  # type: ignore[misc]  # trl is untyped
    """Options of [`CompatibilityTrainer`]: every option of [`trl.SFTConfig`], and those of the method.

    The defaults of the method's options are those of MUSCLE (arXiv 2407.09435, section 4.1 and appendix A). The
    paper's epochs (10), warm-up (500 steps) and gradient accumulation (8) depend on the size of the data and are left
    to the parent's defaults.

    Two of the parent's options mean something else here. `torch_compile` compiles the layers of student and teachers,
    one by one, in place: whatever else takes hold of the models stays as it is (`torch_compile_mode` may be "default"
    or "max-autotune-no-cudagraphs"; answers in evaluations are not compiled). `use_liger_kernel` takes the kernels of
    the layers alone.

    Args:
        preset: Options that did well together on updates of real models; see docs/evidence.md. "focal" takes mask
            "none", focal_beta 5.0 and cross_entropy_weight 0.5; "focal_product" the same with unlabelled_teacher
            "product". "product" takes mask "none", teacher "new", temperature 1.0, cross_entropy_weight 0.5 and
            unlabelled_teacher "product"; "more_confident" the same with unlabelled_teacher "more_confident". All but
            "focal" need `unlabelled_dataset`. Another option that is not at its default wins. Defaults to None: the
            paper's method.
        mask: Which tokens learn from `teacher`; the others learn from the new model. "student_wrong" (the method,
            default), "new_wrong", "old_right", "old_better", "token_likelihood", "sequence_likelihood",
            "negative_flip", or "none" (every token). A function of your own goes to the trainer as `mask`.
        divergence: How far the student is from its teacher: "forward_kl" (the method, default), "reverse_kl",
            "jensen_shannon" or "logit_difference_inhibition".
        teacher: What the marked tokens learn from: "old" (the method, default), "new", "ensemble" (mean probability),
            "log_ensemble" (mean logit), "more_confident", "product" (of both models' probabilities), or
            "perpendicular" (the new model, and what the old one's logits have that these do not; experimental).
        temperature: Divides all logits in the divergence. Defaults to 2.0.
        scale_by_temperature_squared: Multiply the divergence by T^2, which keeps the size of gradients as T grows.
            Defaults to False, as in the paper.
        cross_entropy_weight: 1 - lambda of Eq. 5, in [0, 1): the weight of the cross-entropy on the gold tokens; the
            compatibility loss gets the rest. Defaults to 0.0.
        jensen_shannon_beta: Of the divergence "jensen_shannon". Defaults to 0.5.
        focal_alpha: Weight of every token's divergence. Defaults to 1.0.
        focal_beta: Added to it where the old model is right; PCT takes 5. Defaults to 0.0: no focus.
        product_temperatures: Those of the old and the new model in "product", softmax(z_old / T_old + z_new / T_new).
            Defaults to None: fitted before training, by the likelihood of the gold tokens of `eval_dataset`.
        teacher_weight: How much of the old model's logits the teacher "perpendicular" adds. Defaults to 1.0.
        gradient_conflict: How the gradients of cross-entropy and compatibility loss are put together: "sum" (default),
            "accuracy_first" or "project_both"; the latter two are experimental. They take a second backward pass and a
            copy or two of the gradient, and work in one process.
        log_gradient_cosine: Log `gradient_cosine` and `share_of_conflicts`, at the same cost, with the same weights as
            without. Defaults to False; with another `gradient_conflict` than "sum" they are logged anyway.
        weight_column: A column of the training set with a number for each row, which multiplies the row's loss.
            Defaults to None.
        student_rank: Rank of the compatibility adapter, larger than the task adapter's: the copy is padded so that
            its function is unchanged at the start (the paper trains with rank 128). Defaults to None: as it is.

        full_fine_tune: The new model is a fully fine-tuned one without adapter, and all of its weights are trained.
            A copy of them is kept in memory as the new teacher. Defaults to False.

        > Parameters that control the old model

        old_model_init_kwargs: Keyword arguments for `from_pretrained`, used where `old_model` is an id or a path. A
            `revision` pins the old base. Defaults to None: the same `dtype`, `attn_implementation` and
            `quantization_config` as in `model_init_kwargs`.
        alignment: "tokens" (default) needs one vocabulary on both sides; "chunks" aligns two tokenizers where they
            meet in the text.

        > Parameters that control memory and speed

        loss_implementation: "plain" takes the full logits of all three models; "chunked" works from hidden states and
            holds the logits of a few tokens at a time, with the same result up to rounding (but for dropout on the
            LM head itself, which is drawn anew for the mask). "auto" (default) is plain where the logits of a batch
            are small (64 MiB), and chunked above.
        teacher_cache: "sampled", "topk" or "hidden" computes the targets of both teachers once, before training, and
            reads them at each step; the old model is then not loaded again. "sampled" draws tokens so that the forward
            KL and its gradient are right on average; "topk" leaves out what the models disagree on outside the k
            likeliest tokens; "hidden" is exact. With `alignment="chunks"` it is "chunks": the old model's score of
            each chunk, five bytes. "none" (default) asks the teachers at each step.
        teacher_cache_dir: Folder of the cache, or an address of fsspec such as `s3://bucket/cache`, whose files are
            fetched into the folder that is the default: `teacher_cache` in the output folder. An address with a
            password, or with anything after `?`, is refused.
        teacher_cache_k: Tokens of the "sampled" or "topk" cache. Defaults to 64.

        > Parameters that control unlabelled prompts

        unlabelled_teacher: Whose answers the rows of `unlabelled_dataset` get, and whom they learn from: "old"
            (default), "new" or "more_confident"; or "product": answers as with "more_confident" (or a log's), learned
            from the product of both models' probabilities.
        unlabelled_ratio: Unlabelled rows for each labelled row, the same in every epoch. Of more they are drawn with
            the seed, and the others are not asked. Defaults to None: every unlabelled row once an epoch.
        unlabelled_max_new_tokens: Longest answer, in tokens. Defaults to 256.

        > Parameters that name an endpoint of the old model

        old_endpoint: Address of a server with OpenAI's interface, such as "http://localhost:8000/v1": it answers
            unlabelled prompts, and the test rows of `muscle-hf update`, in the old model's place. The loss still needs
            `old_model`. Defaults to None.
        old_endpoint_model: Name of the old model there.
        old_endpoint_key_env: Environment variable that holds the key. Defaults to `OPENAI_API_KEY`, where it is set.
        old_endpoint_concurrency: Requests at once, of each process. Defaults to 8.

        > Parameters that control flips in the loop

        flips_max_new_tokens: Longest answer to a row of `flips_dataset`, in tokens. Defaults to 256.
        min_accuracy: A checkpoint whose `eval_accuracy` on `flips_dataset` is lower is never the best one. Defaults to
            None.

    > [!NOTE]
    > These parameters have default values different from [`trl.SFTConfig`]:
    > - `learning_rate`: Defaults to `1e-4` instead of `2e-5` (Table 8 of the paper).
    > - `bf16`: Defaults to what the device can do instead of `True`: bfloat16 on a GPU that computes in it, and
    >   otherwise float32, as on a CPU.
    > - `completion_only_loss`: Defaults to `False` instead of `None`: the paper trains on context and answer (A.1).
    >   Set it to `True` to train on the completion alone, or to `None` for the parent's choice by data set.
    > - `loss_type`: Defaults to `"nll"` whatever the release of TRL.

    Raises:
        ConfigurationError: A name that does not exist, a number out of range, options of which one would be ignored,
            an option of the parent that the compatibility loss would ignore (`loss_type`, `label_smoothing_factor`),
            or what the parent refuses.
        ArgumentError: An option that does not exist, with what to write instead.
        MissingPackageError: An address as `teacher_cache_dir` whose package is not installed.

    Example:
        >>> CompatibilityConfig(report_to="none").temperature
        2.0
    """

    _VALID_DICT_FIELDS: ClassVar[list[str]] = [*SFTConfig._VALID_DICT_FIELDS, "old_model_init_kwargs"]

    learning_rate: float = field(default=1e-4, metadata={"help": "The initial learning rate for AdamW."})
    completion_only_loss: bool | None = field(
        default=False,
        metadata={
            "help": "Whether to train on the completion alone. `False` trains on prompt and completion, as the paper "
            "does; `None` chooses by the data set, as `SFTConfig` does."
        },
    )
    # TRL 1.14 has "chunked_nll" here, which patches the model's forward.
    loss_type: str = field(default="nll", metadata={"help": "TRL's loss: `nll`, whose place ours takes."})
    weight_column: str | None = field(
        default=None, metadata={"help": "Column of the training set whose number multiplies the loss of its row."}
    )
    student_rank: int | None = field(
        default=None, metadata={"help": "Rank of the compatibility adapter, larger than the task adapter's."}
    )
    full_fine_tune: bool = field(
        default=False, metadata={"help": "The new model has no adapter, and all of its weights are trained."}
    )
    old_model_init_kwargs: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Keyword arguments for `from_pretrained` of the old model, when it is given as a string."},
    )
    alignment: str = field(
        default="tokens",
        metadata={"help": "`chunks` aligns two different tokenizers.", "choices": list(ALIGNMENTS)},
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
    unlabelled_teacher: str = field(
        default="old",
        metadata={"help": "Whose answers unlabelled prompts get.", "choices": list(UNLABELLED_TEACHERS)},
    )
    unlabelled_ratio: float | None = field(
        default=None, metadata={"help": "Unlabelled rows for each labelled row; by default all of them once."}
    )
    unlabelled_max_new_tokens: int = field(
        default=256, metadata={"help": "Longest answer to an unlabelled prompt, in tokens."}
    )
    old_endpoint: str | None = field(
        default=None,
        metadata={"help": "Address of a server that answers in the old model's place, such as http://host:8000/v1."},
    )
    old_endpoint_model: str | None = field(default=None, metadata={"help": "Name of the old model there."})
    old_endpoint_key_env: str | None = field(
        default=None, metadata={"help": "Environment variable with its key; by default OPENAI_API_KEY."}
    )
    old_endpoint_concurrency: int = field(default=8, metadata={"help": "Requests at once."})
    flips_max_new_tokens: int = field(
        default=256, metadata={"help": "Longest answer to a row of the flips data set, in tokens."}
    )
    min_accuracy: float | None = field(
        default=None, metadata={"help": "A checkpoint with a lower `eval_accuracy` is never the best one."}
    )

    def __post_init__(self) -> None:
        """Check the options before any model is loaded."""
        apply_preset(self)
        self.strategy()
        for name, known in (
            ("alignment", ALIGNMENTS),
            ("loss_implementation", LOSS_IMPLEMENTATIONS),
            ("teacher_cache", TEACHER_CACHES),
            ("unlabelled_teacher", UNLABELLED_TEACHERS),
        ):
            if getattr(self, name) not in known:
                raise unknown_option(name, getattr(self, name), known)
        counts = ("student_rank", "teacher_cache_k", "unlabelled_max_new_tokens", "flips_max_new_tokens")
        for name in (*counts, "old_endpoint_concurrency"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ConfigurationError(f"{name}={value!r} must be an int of 1 or more.")
        check_ratio(self.unlabelled_ratio)
        check_product(self)
        check_two_goals(self)
        check_old_endpoint(self)
        refuse_contradictions(self)
        # transformers takes every metric that is no loss for one to raise, and would keep the worst checkpoint.
        best, direction = self.metric_for_best_model, self.greater_is_better
        self.greater_is_better: bool | None = direction_of_best(best, direction)
        # The parent takes bf16 wherever nothing is said, which a machine without such a GPU refuses.
        self.bf16: bool | None = bf16_of_device(self.bf16, fp16=self.fp16, use_cpu=self.use_cpu)
        # TRL gives its default under a name that transformers 5.23 warns of, as if the user had written it.
        if getattr(self, "activation_checkpointing", self) is None:
            self.activation_checkpointing: bool | None = self.gradient_checkpointing
        super().__post_init__()
        # Memory is pinned for a GPU; without one, torch only warns that it does nothing.
        self.dataloader_pin_memory: bool = self.dataloader_pin_memory and self.device.type != "cpu"
        check_min_accuracy(self.min_accuracy, self.metric_for_best_model)
        if self.loss_type != "nll":
            raise ConfigurationError(
                f"loss_type={self.loss_type!r} would be ignored: the compatibility loss takes its place. Leave it at "
                "its default and choose with `mask`, `divergence` and `cross_entropy_weight`."
            )
        if self.torch_compile_mode not in (None, "default", "max-autotune-no-cudagraphs"):
            raise ConfigurationError(
                f"torch_compile_mode={self.torch_compile_mode!r} records CUDA graphs, which write over what a teacher "
                'has returned before the student learns from it. Take "default" or "max-autotune-no-cudagraphs".'
            )
        if self.use_liger_kernel:
            self.liger_kernel_config: Any = liger_without_head(self.liger_kernel_config)
        if self.label_smoothing_factor:
            raise ConfigurationError(
                f"label_smoothing_factor={self.label_smoothing_factor} would be ignored: teachers take the place of "
                "smoothed labels. Set it to 0."
            )

    def refuse_options_without_data(
        self, *, unlabelled_dataset: bool, flips_dataset: bool, asks_old_model: bool = False
    ) -> None:
        """Refuse an option about data that the trainer did not get, since it would be ignored.

        `asks_old_model` says that the old model is asked other rows as well.
        """
        is_asked = unlabelled_dataset and self.unlabelled_teacher == "old"
        if self.old_endpoint is not None and not is_asked and not asks_old_model:
            raise ConfigurationError(
                "old_endpoint would be ignored: it answers unlabelled prompts, in the old model's place. Pass "
                'unlabelled_dataset with unlabelled_teacher="old", or leave it out.'
            )
        of_unlabelled = [option.name for option in fields(self) if option.name.startswith(("preset", "unlabelled_"))]
        for data, option, is_given, names in (
            ("unlabelled_dataset", "--unlabelled-dataset", unlabelled_dataset, of_unlabelled),
            ("flips_dataset", "--measure-flips", flips_dataset, ["flips_max_new_tokens", "min_accuracy"]),
        ):
            if not is_given:
                refuse_options_without(self, names, data, f" ({option} of muscle-hf update)")
        if unlabelled_dataset and (self.dataset_kwargs or {}).get("skip_prepare_dataset"):
            raise ConfigurationError("unlabelled_dataset works on the preparation that skip_prepare_dataset skips.")
