"""Compatibility training of classifiers: one class for a text, or one for each word of it.

`trainer` is the wiring and `config` its options; `models`, `pair` and `labels` are the two models and their classes,
`data` and `collator` the rows for two tokenizers, `loss` and `evaluation` what is trained on and measured.
"""
