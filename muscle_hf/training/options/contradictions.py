"""Options of the compatibility trainer that contradict each other, or of which one would be ignored."""

from typing import Any

from transformers.utils import is_liger_kernel_available

from ...alignment.loss import validate_for_chunks
from ...errors import ConfigurationError
from ...teachers.cache.remote import file_system, is_address
from ...teachers.cache.spec import OF_SOME_TOKENS


def refuse_contradictions(config: Any) -> None:
    """Refuse options of [`CompatibilityConfig`] of which one would be ignored, before any model is loaded."""
    if config.full_fine_tune and config.student_rank is not None:
        raise ConfigurationError(f"student_rank={config.student_rank} needs an adapter; full_fine_tune=True has none.")
    if (config.dataset_kwargs or {}).get("skip_prepare_dataset"):
        for name, is_set in (
            ("teacher_cache", config.teacher_cache != "none"),
            ("weight_column", config.weight_column is not None),
            ("alignment", config.alignment != "tokens"),
        ):
            if is_set:
                raise ConfigurationError(f"{name} works on the preparation that skip_prepare_dataset skips.")
    if config.alignment == "chunks":
        _refuse_what_chunks_cannot_do(config)
    elif config.teacher_cache == "chunks":
        raise ConfigurationError(
            'teacher_cache="chunks" is for two tokenizers, alignment="chunks". With one tokenizer take "sampled" '
            'or "hidden".'
        )
    refuse_contradictions_of_cache(config)


def refuse_contradictions_of_cache(config: Any) -> None:
    """Refuse options of a teacher cache without one, and what a cache cannot do."""
    if config.teacher_cache == "none":
        for name in ("teacher_cache_dir", "teacher_cache_k"):
            if getattr(config, name) != getattr(type(config), name):  # the default
                raise ConfigurationError(
                    f"{name}={getattr(config, name)!r} would be ignored without a cache. Set teacher_cache to "
                    '"sampled" or "hidden", or leave it out.'
                )
    else:
        _refuse_what_a_cache_cannot_do(config)


def _refuse_what_a_cache_cannot_do(config: Any) -> None:
    if is_address(config.teacher_cache_dir or ""):
        file_system(str(config.teacher_cache_dir))  # refuses before models are loaded
    if (config.packing or config.eval_packing) and config.packing_strategy != "bfd":
        raise ConfigurationError(
            f"packing_strategy={config.packing_strategy!r} cuts rows in the middle, and the teachers of a cache "
            'have read them whole. Set packing_strategy="bfd", or teacher_cache="none".'
        )
    has_k = config.teacher_cache in OF_SOME_TOKENS
    if not has_k and config.teacher_cache_k != type(config).teacher_cache_k:
        raise ConfigurationError(
            f"teacher_cache_k={config.teacher_cache_k} would be ignored by teacher_cache={config.teacher_cache!r}; "
            'it belongs to "sampled" and "topk".'
        )
    if config.loss_implementation == "plain" and config.teacher_cache != "chunks":
        raise ConfigurationError(
            'loss_implementation="plain" takes the full logits of the teachers, which a cache does not have. '
            'Leave it at "auto", or set teacher_cache="none".'
        )
    if config.teacher_cache == "topk" and config.divergence == "logit_difference_inhibition":
        raise ConfigurationError(
            'divergence="logit_difference_inhibition" needs all logits, and teacher_cache="topk" keeps the '
            'probabilities of the likeliest tokens. Take teacher_cache="hidden", or another divergence.'
        )
    if config.teacher_cache == "sampled" and config.divergence != "forward_kl":
        raise ConfigurationError(
            f"divergence={config.divergence!r} is not linear in the teacher's probabilities, so tokens drawn from "
            'them cannot give it without bias. With teacher_cache="sampled" take "forward_kl", or '
            'teacher_cache="hidden".'
        )
    for name in ("teacher", "unlabelled_teacher") if has_k else ():
        if getattr(config, name) in ("ensemble", "log_ensemble", "product", "perpendicular"):
            raise ConfigurationError(
                f"{name}={getattr(config, name)!r} needs both models' whole distributions, and their cached tokens "
                f'are not the same. Take teacher_cache="hidden", or {name}="more_confident".'
            )


def _refuse_what_chunks_cannot_do(config: Any) -> None:
    validate_for_chunks(config.strategy())
    for name, is_set, remedy in (
        (
            f"packing_strategy={config.packing_strategy!r}",
            (config.packing or config.eval_packing) and config.packing_strategy != "bfd",
            'It cuts rows in the middle, and chunks with them; take packing_strategy="bfd".',
        ),
        ('truncation_mode="keep_end"', config.truncation_mode == "keep_end", 'Chunks are cut by "keep_start" only.'),
        (
            f"teacher_cache={config.teacher_cache!r}",
            config.teacher_cache in ("sampled", "topk", "hidden"),
            'The old model\'s tokens are others; take teacher_cache="chunks".',
        ),
    ):
        if is_set:
            raise ConfigurationError(f'{name} does not go with alignment="chunks". {remedy}')


def liger_without_head(config: dict[str, bool] | None) -> dict[str, bool]:
    """Leave out Liger's loss, whose forward pass gives no logits; refuse kernels that are not there."""
    if not is_liger_kernel_available():
        raise ConfigurationError(
            "use_liger_kernel=True needs Liger, which runs on GPUs: pip install liger-kernel, or set it to False."
        )
    if (config or {}).get("fused_linear_cross_entropy"):
        raise ConfigurationError(
            'liger_kernel_config={"fused_linear_cross_entropy": True} would take the place of the LM head, whose '
            "logits the compatibility loss needs; its slices save the same memory. Leave it out: the kernels of the "
            "layers stay."
        )
    return {**(config or {}), "fused_linear_cross_entropy": False}
