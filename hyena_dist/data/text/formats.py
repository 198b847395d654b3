"""Recognition of input that cannot be read: what is no file, and files of formats that are not text."""

import stat
from pathlib import Path

from hyena_dist.errors import UserError
from hyena_dist.system.urls import as_url

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""What some programs put before UTF-8 text; it has no meaning."""
_UNPACK = "unpack it first"
# What files begin with, what they are then, and what to do with them.
_FORMATS = (
    (b"BZh", "bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd", _UNPACK),
    (b"PK\x03\x04", "zip", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "7z", _UNPACK),
    (b"\x04\x22\x4d\x18", "lz4", _UNPACK),
    (b"LZIP", "lzip", _UNPACK),
    (b"\x1f\x9d", "compress (.Z)", _UNPACK),
    (b"\x1f\x8b", "gzip inside gzip", _UNPACK),
    (b"\x43\x27\x41\x1a", "2bit inside gzip", _UNPACK),
    (b"\x1a\x41\x27\x43", "2bit inside gzip", _UNPACK),
    (b"BAM\x01", "BAM", "convert it to FASTA first"),
    (b"CRAM", "CRAM", "convert it to FASTA first"),
    (b"\xff\xfe", "UTF-16 text", "convert it first, as by `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "UTF-16 text", "convert it first, as by `iconv -f UTF-16 -t UTF-8`"),
)
_TAR = slice(257, 262)  # where a tar has "ustar"


def check_text(path: Path, start: bytes) -> None:
    """Raise UserError if text that was read, and decompressed if it was gzip, is of a format that is no text.

    Args:
        path: path of the file, for the error.
        start: the first bytes, 262 or more unless the text is shorter.
    """
    found = next((each for each in _FORMATS if start.startswith(each[0])), None)
    if start[_TAR] == b"ustar":
        found = (b"", "tar", _UNPACK)
    if found:
        raise UserError(f"{path} is {found[1]}, and plain text, gzip and bgzip can be read; {found[2]}")


def check_file(path: Path) -> None:
    """Raise UserError if an input is no file that can be read more than once.

    Input is read for its first bytes, for its content, and again after an interruption. A pipe gives its content once,
    and opening one that nobody writes to takes for ever.

    Args:
        path: path of the input.

    Raises:
        OSError: There is nothing at `path`.
    """
    url = as_url(path)
    if url and not path.exists():
        raise UserError(f"{url} is a URL, and input is read from this machine; fetch the file first, and give its path")
    is_stdin = str(path) == "-" and not path.exists()
    if is_stdin or not (stat.S_ISREG(path.stat().st_mode) or path.is_dir()):
        what = "means standard input" if is_stdin else "is a pipe or a device"
        raise UserError(
            f"{path} {what}, and input is read more than once; "
            f"write it to a file first, or give the file that it comes from (gzip is read as it is)"
        )
