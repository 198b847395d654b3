"""The tokenizer of the published models as transformers has it: a token for each nucleotide, by one look-up for all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizer
from transformers.tokenization_utils_base import BatchEncoding

from hyena_dist.data.tokenizer import ENCODE_TABLE, INVALID, TOKENS, UNK, VOCAB, decode, encode


def _table(any_case: bool) -> NDArray[np.int64]:
    """Return the token of each byte, int64 [256]."""
    if any_case:
        return np.where(ENCODE_TABLE == INVALID, UNK, ENCODE_TABLE).astype(np.int64)
    table = np.full(256, UNK, dtype=np.int64)
    table[np.frombuffer(b"ACGTN", dtype=np.uint8)] = encode(b"ACGTN")
    return table


class HyenaDNATokenizer(PreTrainedTokenizer):
    """Turns A, C, G, T and N into tokens 7 to 11 and puts [SEP] behind them, as the published tokenizer does.

    Args:
        any_case: whether lower case is read as upper case, U as T and IUPAC's ambiguity codes as N, as this project's
            data has it. The published tokenizer reads all of these as [UNK], which is the default.
        kwargs: what PreTrainedTokenizer takes. Padding is on the left unless `padding_side` says otherwise.

    Example:
        >>> from hyena_dist.hf import HyenaDNATokenizer
        >>> HyenaDNATokenizer()("ACGTN")["input_ids"]
        [7, 8, 9, 10, 11, 1]
    """

    # The published one leaves the mask out, and its padding then moves all outputs.
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, any_case: bool = False, **kwargs: Any) -> None:
        self._lookup = _table(any_case)
        special = {"bos": "[BOS]", "eos": "[SEP]", "sep": "[SEP]", "cls": "[CLS]", "pad": "[PAD]", "mask": "[MASK]"}
        tokens = {f"{name}_token": token for name, token in special.items()} | {"unk_token": "[UNK]"}
        kwargs = tokens | {"padding_side": "left"} | kwargs | {"model_input_names": self.model_input_names}
        super().__init__(any_case=any_case, **kwargs)

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return len(TOKENS)

    def get_vocab(self) -> dict[str, int]:
        """Return the number of each token."""
        return dict(VOCAB)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write nothing: the vocabulary is fixed."""
        return ()

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        """Put [SEP] behind each sequence."""
        end = [self.sep_token_id]
        return token_ids_0 + end if token_ids_1 is None else token_ids_0 + end + token_ids_1 + end

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each special token of what `build_inputs_with_special_tokens` gives, and 0 for the others."""
        if already_has_special_tokens:
            found: list[int] = super().get_special_tokens_mask(token_ids_0, token_ids_1, True)
            return found
        parts = [token_ids_0] if token_ids_1 is None else [token_ids_0, token_ids_1]
        return [mark for part in parts for mark in (*([0] * len(part)), 1)]

    def _encode_plus(  # type: ignore[override]
        self, text: Any, text_pair: Any = None, return_tensors: Any = None, **kwargs: Any
    ) -> BatchEncoding:
        encoded = super()._encode_plus(text=self._ids(text), text_pair=self._ids(text_pair), **kwargs)
        if return_tensors is None:
            return encoded
        # By way of arrays: torch takes ten times as long for a list of a million numbers as numpy does.
        single = not isinstance(encoded["input_ids"][0], list)
        arrays = {
            key: np.asarray(value) if single else [np.asarray(row) for row in value] for key, value in encoded.items()
        }
        return BatchEncoding(arrays, tensor_type=return_tensors, prepend_batch_axis=single)

    def _ids(self, text: Any) -> Any:
        """Return the tokens of a plain text; what names special tokens, and what is no text, goes the usual way."""
        if not isinstance(text, str) or not text or "[" in text:
            return text
        return self._lookup[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)].tolist()

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        if len(token) == 1:
            return int(self._lookup[token.encode("ascii", "replace")[0]])
        return VOCAB.get(token, UNK)

    def _convert_id_to_token(self, index: int) -> str:
        return decode(np.array([index]))

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Put tokens together."""
        return "".join(tokens)

    def _decode(  # type: ignore[override]
        self, token_ids: int | list[int], skip_special_tokens: bool = False, **kwargs: Any
    ) -> str:
        ids = np.atleast_1d(np.asarray(token_ids, dtype=np.int64))
        if skip_special_tokens:
            ids = ids[~np.isin(ids, self.all_special_ids)]
        return decode(ids)


def tokenizer(any_case: bool = True, padding_side: str = "left") -> HyenaDNATokenizer:
    """Return the tokenizer of all HyenaDNA models.

    Args:
        any_case: whether lower case is read as upper case, U as T and ambiguity codes as N, as in this project's data;
            [UNK] otherwise, as in the published models'.
        padding_side: "left" or "right"; results do not depend on it where the model gets the mask.

    Example:
        >>> import hyena_dist
        >>> hyena_dist.tokenizer()("acgt", add_special_tokens=False)["input_ids"]
        [7, 8, 9, 10]
    """
    return HyenaDNATokenizer(any_case=any_case, padding_side=padding_side)
