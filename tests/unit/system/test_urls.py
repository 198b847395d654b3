"""URLs are told from paths, also as Path spells them."""

from pathlib import Path

import pytest

from hyena_dist.errors import UserError
from hyena_dist.system.urls import as_url, check_local


@pytest.mark.parametrize("url", ["s3://bucket/x", "gs://b/x/y", "https://host/x", "abfss://c@a/x"])
def test_urls(url: str) -> None:
    assert as_url(url) == as_url(Path(url)) == url
    with pytest.raises(UserError, match="is a URL, and output is written to this machine; name a path here"):
        check_local(Path(url))


def test_commands() -> None:
    assert as_url("pipe:aws s3 cp - s3://b/x") == "pipe:aws s3 cp - s3://b/x"


@pytest.mark.parametrize("path", ["s3", "a/s3://b", "/data/x:y/z", "x:1", "chr1:5-9", "-", "../a:/b", "2:/x"])
def test_paths(path: str) -> None:
    assert as_url(path) is as_url(Path(path)) is None
    check_local(Path(path))
