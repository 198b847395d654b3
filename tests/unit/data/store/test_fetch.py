"""Files come whole and right, or an error says why not; against a real web server with faults."""

import hashlib
import multiprocessing
import os
import pickle
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyena_dist.data.store.fetch import Limits, NotThereError, ShardCache, fetch, is_remote, join
from hyena_dist.errors import UserError
from hyena_dist.system.locks import lock

SIZE = 3 * 2**20
CONTENT = np.random.default_rng(0).bytes(SIZE)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(attempts=3, wait_s=0.01, timeout_s=0.3, min_rate=1000, rate_s=0.2)


@pytest.fixture
def served(site: Any) -> Any:
    (site.folder / "a.tar").write_bytes(CONTENT)
    return site


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "here" / "a.tar"


def refused(*args: Any, **kwargs: Any) -> str:
    """Fetch, expect a UserError of one sentence with a fix, and nothing under the file's name."""
    with pytest.raises(UserError) as caught:
        fetch(*args, **{"limits": QUICK, **kwargs})
    message = str(caught.value)
    assert "; " in message
    assert "\n" not in message
    assert not args[1].exists()
    return message


def test_fetches_checks_and_leaves_nothing_else(served: Any, file: Path) -> None:
    counts: list[int] = []
    fetch(f"{served.url}/a.tar", file, size=SIZE, sha256=SHA256, on_bytes=counts.append)
    assert file.read_bytes() == CONTENT
    assert sum(counts) == SIZE
    assert sorted(path.name for path in file.parent.iterdir()) == [".a.tar.lock", "a.tar"]
    fetch(f"{served.url}/a.tar", file)
    assert len(served.asked) == 1, "a file that is there was fetched again"


@pytest.mark.parametrize("fault", ["stall", "truncate", "trickle"])
def test_goes_on_where_it_ended(served: Any, file: Path, fault: str) -> None:
    served.faults["a.tar"] = [fault]
    fetch(f"{served.url}/a.tar", file, sha256=SHA256, limits=QUICK)
    ranges = [wanted for _path, wanted in served.asked]
    assert len(ranges) == 2
    assert ranges[0] == ""
    at = int(re.fullmatch(r"bytes=(\d+)-", ranges[1])[1])  # type: ignore[index]
    assert SIZE // 2 <= at < SIZE // 2 + 100


def test_trickle_is_noticed_though_never_silent(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["trickle", "..."]
    begin = time.monotonic()
    assert "slower than 1,000 bytes/s" in refused(f"{served.url}/a.tar", file)
    assert time.monotonic() - begin < 10


def test_a_later_call_goes_on(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["truncate", 503, "..."]
    assert "HTTP 503" in refused(f"{served.url}/a.tar", file)
    del served.faults["a.tar"]
    fetch(f"{served.url}/a.tar", file, sha256=SHA256)
    assert served.asked[-1] == ("a.tar", f"bytes={SIZE // 2}-")


def test_killed_after_the_last_byte(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["truncate", 503, "..."]
    refused(f"{served.url}/a.tar", file)
    file.with_name("a.tar.part").write_bytes(CONTENT)
    fetch(f"{served.url}/a.tar", file, sha256=SHA256, limits=QUICK)
    assert file.read_bytes() == CONTENT


def test_500_twice_then_well(served: Any, file: Path) -> None:
    served.faults["a.tar"] = [500, 500]
    fetch(f"{served.url}/a.tar", file, sha256=SHA256, limits=QUICK)
    assert len(served.asked) == 3


def test_500_for_ever(served: Any, file: Path) -> None:
    served.faults["a.tar"] = [500, "..."]
    assert "HTTP 500" in refused(f"{served.url}/a.tar", file)
    assert len(served.asked) == QUICK.attempts


def test_pauses_double(served: Any, file: Path) -> None:
    served.faults["a.tar"] = [500, "..."]
    begin = time.monotonic()
    refused(f"{served.url}/a.tar", file, limits=Limits(attempts=4, wait_s=0.1))
    assert 0.7 <= time.monotonic() - begin < 5  # 0.1 + 0.2 + 0.4


@pytest.mark.parametrize("code", [404, 403])
def test_what_will_not_change_is_not_retried(served: Any, file: Path, code: int) -> None:
    served.faults["a.tar"] = [code, "..."]
    assert f"HTTP {code}" in refused(f"{served.url}/a.tar", file)
    assert len(served.asked) == 1
    with pytest.raises(NotThereError):
        fetch(f"{served.url}/none", file)


def test_server_that_ignores_ranges(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["truncate", "whole"]
    fetch(f"{served.url}/a.tar", file, sha256=SHA256, limits=QUICK)
    assert served.asked[1][1] != ""


def test_server_without_etag_is_not_resumed(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["forget"]
    fetch(f"{served.url}/a.tar", file, sha256=SHA256, limits=QUICK)
    assert [wanted for _path, wanted in served.asked] == ["", ""]


def test_file_that_changes_between_attempts_is_not_mixed(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["truncate", "change"]
    fetch(f"{served.url}/a.tar", file, limits=QUICK)
    assert file.read_bytes() == (served.folder / "a.tar").read_bytes() != CONTENT


def test_file_that_becomes_shorter_between_attempts(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["truncate", 416]
    fetch(f"{served.url}/a.tar", file, sha256=SHA256, limits=QUICK)
    assert len(served.asked) == 3


def test_wrong_bytes_once(served: Any, file: Path) -> None:
    served.faults["a.tar"] = ["wrong"]
    fetch(f"{served.url}/a.tar", file, size=SIZE, sha256=SHA256, limits=QUICK)
    assert file.read_bytes() == CONTENT


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_wrong_bytes_again(served: Any, file: Path, algorithm: str) -> None:
    served.faults["a.tar"] = ["wrong", "..."]
    expected = hashlib.new(algorithm, CONTENT).hexdigest()
    message = refused(f"{served.url}/a.tar", file, **{algorithm: expected})
    assert f"its {algorithm} is" in message
    assert expected in message
    assert len(served.asked) == 2, "big files are not to be fetched often for nothing"


def test_wrong_size(served: Any, file: Path) -> None:
    assert f"it has {SIZE} bytes instead of 7" in refused(f"{served.url}/a.tar", file, size=7)


def test_progress_is_what_counts_as_an_attempt(served: Any, file: Path) -> None:
    """Many cuts do not end a fetch as long as each attempt brings much."""
    content = CONTENT * 5
    (served.folder / "big").write_bytes(content)
    served.faults["big"] = ["truncate"] * 3 + ["", "..."]
    fetch(f"{served.url}/big", file, sha256=hashlib.sha256(content).hexdigest(), limits=Limits(attempts=2, wait_s=0.01))
    assert len(served.asked) == 4


def test_any_faults_in_any_order(site: Any, tmp_path: Path) -> None:
    """The right bytes come in the end, whatever happened before; without a hash, the server must tell changes."""
    (site.folder / "a.tar").write_bytes(CONTENT[:50_000])
    draw = np.random.default_rng(2)
    kinds = [500, 503, 429, 416, "truncate", "whole", "change", "forget"]
    for case in range(60):
        faults = [kinds[number] for number in draw.integers(0, len(kinds), draw.integers(1, 6))]
        site.faults["a.tar"] = [*faults]
        fetch(f"{site.url}/a.tar", tmp_path / str(case), limits=Limits(attempts=8, wait_s=0.0001))
        assert (tmp_path / str(case)).read_bytes() == (site.folder / "a.tar").read_bytes(), faults


def test_nobody_listens(site: Any, file: Path) -> None:
    port = site.server_address[1]
    site.server_close()
    message = refused(f"http://127.0.0.1:{port}/a.tar", file)
    assert "refused" in message
    assert "3 times in a row" in message


def test_offline(file: Path) -> None:
    begin = time.monotonic()
    message = refused("http://no-such-host.invalid/a.tar", file, limits=Limits())
    assert "'no-such-host.invalid' cannot be resolved" in message
    assert time.monotonic() - begin < 20, "being offline is not retried"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(served: Any, file: Path) -> None:
    file.parent.mkdir()
    file.with_name("a.tar.part").symlink_to("/dev/full")
    assert "No space left on device); free some space" in refused(f"{served.url}/a.tar", file)


def test_pipe(tmp_path: Path, file: Path) -> None:
    (tmp_path / "a b'c.tar").write_bytes(CONTENT)
    fetch(join(f"pipe:cat {tmp_path}/{{}}", "a b'c.tar"), file, sha256=SHA256)
    assert file.read_bytes() == CONTENT


def test_pipe_that_fails_is_retried(tmp_path: Path, file: Path) -> None:
    message = refused(f"pipe:echo x >> {tmp_path}/tries; echo no such bucket >&2; exit 3", file)
    assert "code 3: no such bucket" in message
    assert (tmp_path / "tries").read_text() == "x\n" * QUICK.attempts


def test_pipe_that_is_cut_off(tmp_path: Path, file: Path) -> None:
    assert f"it has 4 bytes instead of {SIZE}" in refused("pipe:echo abc", file, size=SIZE)


def test_pipe_that_stalls_is_ended(tmp_path: Path, file: Path) -> None:
    message = refused(f"pipe:echo abc; echo $$ >> {tmp_path}/pids; sleep 60; true", file)
    assert "silent for 0.3 s" in message
    for pid in (tmp_path / "pids").read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_pipe_without_the_program(file: Path) -> None:
    assert "install that program" in refused("pipe:no-such-program-here a", file)


def test_names_below_a_base() -> None:
    assert join("http://h/x/", "a b.tar") == "http://h/x/a%20b.tar"
    assert join("https://h/x?key=1", "a.tar") == "https://h/x/a.tar?key=1"
    assert join("pipe:cat /x/{}", "a b") == "pipe:cat /x/'a b'"
    assert join("/x", "a") == "/x/a"
    assert [is_remote(place) for place in ("http://h", "https://h", "pipe:x", "/x", "x:y")] == [True] * 3 + [False] * 2
    with pytest.raises(UserError, match=r"write \{\} where"):
        ShardCache("pipe:cat x", Path("."))


def test_cache(served: Any, tmp_path: Path) -> None:
    cache = pickle.loads(pickle.dumps(ShardCache(served.url, tmp_path / "cache", QUICK)))
    first = cache.local("a.tar", SIZE, SHA256)
    assert first.read_bytes() == CONTENT
    assert cache.local("a.tar", SIZE, SHA256) == first
    assert len(served.asked) == 1
    first.write_bytes(b"cut")
    assert cache.local("a.tar", SIZE, SHA256).read_bytes() == CONTENT
    assert cache.read("a.tar") == CONTENT
    with pytest.raises(NotThereError):
        cache.read("none")


def test_a_file_that_another_process_mends_meanwhile_stays(served: Any, tmp_path: Path) -> None:
    """A file that is cut short is removed under the lock alone, since its owner may just be writing the rest."""
    file = tmp_path / "cache" / f"{SHA256[:16]}-a.tar"
    with ThreadPoolExecutor() as pool:
        with lock(file.with_name(f".{file.name}.lock")):
            file.write_bytes(b"cut")
            found = pool.submit(ShardCache(served.url, file.parent).local, "a.tar", SIZE, SHA256)
            time.sleep(0.3)
            assert file.exists()
            file.write_bytes(CONTENT)
            mended = file.stat().st_ino
        assert found.result().stat().st_ino == mended
    assert not served.asked


def test_cache_of_a_folder_uses_its_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    cache = ShardCache(str(tmp_path), tmp_path / "cache")
    assert cache.local("a", 1, "") == tmp_path / "a"
    assert cache.read("a") == b"x"
    with pytest.raises(UserError, match="cannot be read"):
        cache.read("b")


def _get(url: str, folder: Path) -> bytes:
    return ShardCache(url, folder, Limits(wait_s=0.01)).local("a.tar", SIZE, SHA256).read_bytes()


def test_processes_share_one_download(served: Any, tmp_path: Path) -> None:
    served.faults["a.tar"] = ["truncate"]
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        contents = pool.starmap(_get, [(served.url, tmp_path / "cache")] * 3)
    assert all(content == CONTENT for content in contents)
    assert [wanted for _path, wanted in served.asked] == ["", f"bytes={SIZE // 2}-"]
