"""The Zarr v3 codec of packed.py, which zarr-python finds by its entry point wherever hyena-dist is installed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.common import parse_named_configuration

from hyena_dist.data.store.packed import pack, unpack

if TYPE_CHECKING:
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

CODEC = "hyena_dist.packed_nucleotides"


@dataclass(frozen=True)
class PackedNucleotides(ArrayBytesCodec):
    """Packs a chunk of uint8 tokens into 2 bits a base; lossless for any uint8 array."""

    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "PackedNucleotides":
        """Build it from its entry in zarr.json; it has no settings."""
        parse_named_configuration(data, CODEC, require_configuration=False)
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """Return its entry in zarr.json."""
        return {"name": CODEC}

    def validate(self, *, dtype: Any, **_: Any) -> None:
        """Refuse arrays of another type than uint8."""
        if dtype.to_native_dtype() != np.uint8:
            raise ValueError(f"codec {CODEC} stores uint8, not {dtype}")

    def compute_encoded_size(self, _input_byte_length: int, _chunk_spec: "ArraySpec") -> int:
        """Not known before: runs of other values than A, C, G and T cost bytes."""
        raise NotImplementedError

    async def _encode_single(self, chunk_array: "NDBuffer", chunk_spec: "ArraySpec") -> "Buffer":
        return chunk_spec.prototype.buffer.from_bytes(pack(chunk_array.as_numpy_array().ravel()))

    async def _decode_single(self, chunk_bytes: "Buffer", chunk_spec: "ArraySpec") -> "NDBuffer":
        tokens = unpack(chunk_bytes.as_numpy_array(), int(np.prod(chunk_spec.shape)))
        return chunk_spec.prototype.nd_buffer.from_numpy_array(tokens.reshape(chunk_spec.shape))
