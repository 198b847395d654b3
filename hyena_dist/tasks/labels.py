"""Meaning of columns of labels: their kind, the classes, and numbers for training."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hyena_dist.errors import UserError
from hyena_dist.tasks.labelled import Kind

UNKNOWN = -100
"""The label of a base of which nobody knows the class."""
_MISSING = {"", "nan", "na", "n/a", "null"}
_UNKNOWN_BASES = {*_MISSING, ".", "-", "-100"}
_FLAGS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0}


class Labels(NamedTuple):
    """The labels of N sequences."""

    kind: Kind
    classes: tuple[str, ...]
    """Names of the classes, those of LabelledData."""
    values: NDArray[Any]
    """Numbers of N sequences, those of Examples."""


def labels_of(
    columns: Mapping[str, Sequence[Any]],
    lengths: NDArray[np.int64],
    kind: Kind | Literal["auto"],
    where: Callable[[int], str],
) -> Labels:
    """Return the labels in columns, texts or, from Parquet, numbers and lists.

    One column is the class of a sequence or, if it has a letter or an item for each base, the class of each base;
    several columns of 0 and 1 are a label each. Numbers are a regression only if `kind` says so.

    Args:
        columns: columns by their names, N values each.
        lengths: bases of the sequences, [N].
        kind: what the labels say; auto: what they look like.
        where: names the file and the row of a sequence, for errors.

    Raises:
        UserError: A label is missing or is none of the kind, or numbers are no classes.
    """
    texts = {name: [_text(value) for value in values] for name, values in columns.items()}
    if kind == "auto":
        kind = _kind(columns, texts, lengths)
    if kind == "regression":
        return Labels(kind, tuple(texts), _numbers(texts, where))
    if kind == "multi_label":
        classes = tuple(sorted(texts, key=_order))
        return Labels(kind, classes, _flags({name: texts[name] for name in classes}, where))
    (name,) = texts if len(texts) == 1 else (None,)
    if name is None:
        raise UserError(
            f"the labels are the columns {', '.join(texts)}, and {kind} has one; name it with task.data.labels"
        )
    if kind == "per_base":
        return _per_base(columns[name], lengths, where)
    for number, text in enumerate(texts[name]):
        if text.lower() in _MISSING:
            raise UserError(
                f"{where(number)}: the label is {text or 'empty'!r}, which is no class; give one, or remove the row"
            )
    classes = tuple(sorted(set(texts[name]), key=_order))
    index = {label: i for i, label in enumerate(classes)}
    return Labels(kind, classes, np.array([index[text] for text in texts[name]], np.int64))


def _kind(columns: Mapping[str, Sequence[Any]], texts: Mapping[str, Sequence[str]], lengths: NDArray[np.int64]) -> Kind:
    """Return what labels look like.

    Raises:
        UserError: They are numbers with a fraction, or several columns that are not 0 and 1.
    """
    several = len(texts) > 1
    if several and all(text.lower() in _FLAGS or text.lower() in _MISSING for of in texts.values() for text in of):
        return "multi_label"
    if not several and lengths.max() > 1:
        (values,) = columns.values()
        if all(len(_bases(value, length)) == length for value, length in zip(values, lengths.tolist(), strict=True)):
            return "per_base"
    for name, of in texts.items():
        known = [text for text in of if text.lower() not in _MISSING]
        number = next((text for text in known if not re.fullmatch(r"[+-]?\d+", text)), None)
        if number is not None and all(_number(text) is not None for text in known):
            raise UserError(
                f"label {number!r} of column {name!r} is a number, and a number is no class; "
                f"set task.data.kind=regression, or single_label if each number is a class"
            )
        if several and number is not None and _number(number) is None:
            raise UserError(
                f"label {number!r} of column {name!r} is not 0 or 1, as where each of {len(texts)} columns is a label; "
                f"name the one column of classes with task.data.labels"
            )
    if several:
        raise UserError(
            f"columns {', '.join(texts)} have other numbers than 0 and 1, which are no classes; "
            f"set task.data.kind=regression, or name the one column of classes with task.data.labels"
        )
    return "single_label"


def _numbers(texts: Mapping[str, Sequence[str]], where: Callable[[int], str]) -> NDArray[np.float32]:
    """Return the numbers of a regression, float32 [N, C]."""
    for name, of in texts.items():
        for number, text in enumerate(of):
            value = _number(text)
            if value is None or not math.isfinite(value):
                raise UserError(
                    f"{where(number)}: {name!r} is {text!r}, which is no number to learn; give one, or remove the row"
                )
    return np.array([[float(text) for text in of] for of in texts.values()], np.float32).T.copy()


def _flags(texts: Mapping[str, Sequence[str]], where: Callable[[int], str]) -> NDArray[np.float32]:
    """Return 0, 1 and NaN for what is missing, float32 [N, C]."""
    for name, of in texts.items():
        for number, text in enumerate(of):
            if text.lower() not in _FLAGS and text.lower() not in _MISSING:
                raise UserError(f"{where(number)}: {name!r} is {text!r}; write 0, 1, or nothing where it is not known")
    return np.array([[_FLAGS.get(text.lower(), math.nan) for text in of] for of in texts.values()], np.float32).T.copy()


def _per_base(values: Sequence[Any], lengths: NDArray[np.int64], where: Callable[[int], str]) -> Labels:
    """Return the classes of bases."""
    rows = [_bases(value, length) for value, length in zip(values, lengths.tolist(), strict=True)]
    for number, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        if len(row) != length:
            raise UserError(
                f"{where(number)}: {len(row):,} labels for {length:,} bases; give one letter or item for each base"
            )
    known = {label for row in rows for label in set(row)}
    classes = tuple(sorted((label for label in known if label.lower() not in _UNKNOWN_BASES), key=_order))
    index = {label: i for i, label in enumerate(classes)}
    found = np.empty(len(rows), object)
    found[:] = [np.array([index.get(label, UNKNOWN) for label in row], np.int64) for row in rows]
    return Labels("per_base", classes, found)


def _bases(value: Any, length: int) -> list[str]:
    """Return the labels of bases: the items of a list, also one written as text, or the letters of a text."""
    if isinstance(value, str) and len(value.strip()) != length:
        return re.findall(r"[^\s,;\[\]()'\"]+", value)
    items = value.strip() if isinstance(value, str) else value
    return [_text(item) for item in items] if isinstance(items, str | Sequence) else [_text(value)]


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _order(label: str) -> tuple[float, str]:
    """Return the key by which classes are sorted: numbers by value, before texts."""
    return (int(label) if re.fullmatch(r"[+-]?\d+", label) else math.inf, label)
