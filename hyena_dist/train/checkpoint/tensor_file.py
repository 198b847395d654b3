"""Files in the safetensors format, written tensor by tensor without holding up other threads.

safetensors' own `save_file` wants all tensors in memory and keeps Python's lock while it writes them.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_CHUNK = 1 << 24
"""The number of bytes that are hashed and written at once, so that they are in a cache for the second of the two."""


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a whole file.

    Raises:
        OSError: it could not be written.
    """
    order = file_order((name, t.dtype) for name, t in tensors.items())
    with TensorFile(path, {name: (tensors[name].dtype, tensors[name].shape) for name in order}) as file:
        for name in order:
            file.write(tensors[name])


def file_order(tensors: Iterable[tuple[str, torch.dtype]]) -> list[str]:
    """Return names in the order of a file: those of wide elements first, which keeps all aligned, then by name."""
    return [name for name, _ in sorted(tensors, key=lambda t: (-t[1].itemsize, t[0]))]


class TensorFile:
    """A new file, whole and on the disk when its `with` block ends without an exception.

    Args:
        path: where it is made.
        tensors: type and shape of each tensor, in the order of `file_order`.

    Raises:
        OSError: the file could not be written; the methods raise it too.
    """

    def __init__(self, path: Path, tensors: Mapping[str, tuple[torch.dtype, Iterable[int]]]) -> None:
        self.size = 0
        self._hash = hashlib.sha256()
        self._file = FileIO(path, "w")
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers reads no file without it
        end = 0
        for name, (dtype, shape) in tensors.items():
            begin = end
            end += torch.Size(shape).numel() * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        try:
            self._append(memoryview(struct.pack("<Q", len(text)) + text))
        except OSError:
            self._file.close()
            raise

    @property
    def fingerprint(self) -> tuple[int, str]:
        """Size in bytes and SHA-256 of what is written so far."""
        return self.size, self._hash.hexdigest()

    def write(self, tensor: Tensor) -> None:
        """Append the next tensor."""
        self._append(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)

    def _append(self, data: memoryview) -> None:
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            self._hash.update(chunk)
            self.size += len(chunk)
            while chunk:  # a disk that is almost full takes a part, and complains when it is asked again
                chunk = chunk[self._file.write(chunk) :]

    def __enter__(self) -> "TensorFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                os.fsync(self._file.fileno())
        finally:
            with suppress(OSError):
                self._file.close()
