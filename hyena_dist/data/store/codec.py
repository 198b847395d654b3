"""The Zarr v3 codec that packs tokens as packed.py says, so that zarr-python reads and writes a store's arrays.

zarr-python finds it by its entry point wherever hyena-dist is installed, and calls the methods of PackedNucleotides.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.common import parse_named_configuration

from hyena_dist.data.store.packed import CODEC, pack, unpack

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer


@dataclass(frozen=True)
class PackedNucleotides(ArrayBytesCodec):
    """Packs a chunk of uint8 tokens into 2 bits a base, without loss for any uint8 array."""

    # Read by zarr-python: the size of a packed chunk depends on its content.
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PackedNucleotides":
        """Return the codec that an entry in zarr.json names; the entry has no settings."""
        parse_named_configuration(data, CODEC, require_configuration=False)
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Return the codec's entry in zarr.json."""
        return {"name": CODEC}

    def validate(self, *, dtype: Any, **_: Any) -> None:
        """Refuse arrays of another type than uint8.

        Raises:
            ValueError: The array has another type.
        """
        if dtype.to_native_dtype() != np.uint8:
            raise ValueError(f"codec {CODEC} stores uint8, not {dtype}")

    def compute_encoded_size(self, _input_byte_length: int, _chunk_spec: "ArraySpec") -> int:
        """Refuse to tell the size of a packed chunk, which depends on its content: runs of N cost bytes."""
        raise NotImplementedError

    async def _encode_single(self, chunk_array: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer":
        """Pack one chunk."""
        return chunk_spec.prototype.buffer.from_bytes(pack(chunk_array.as_numpy_array().ravel()))

    async def _decode_single(self, chunk_bytes: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        """Unpack one chunk to the shape that the array's chunks have."""
        tokens = unpack(chunk_bytes.as_numpy_array(), int(np.prod(chunk_spec.shape)))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(tokens.reshape(chunk_spec.shape))
