"""READMEs are made from what was measured."""

from pathlib import Path
from typing import Any

import pytest

from hyena_dist.bench.gpu.report import LEAST_GB, convolution_table, headline_rows, report, write_report
from hyena_dist.bench.gpu.tables import MARKS, UNMEASURED, read_rows, write_tables
from hyena_dist.errors import UserError

ROOT = Path(__file__).parents[4]


def rows() -> list[dict[str, Any]]:
    """The rows of a GPU that copies 3 TB/s."""
    found: list[dict[str, Any]] = [
        {"step": "ceilings", "what": "machine", "gpu": "NVIDIA X-1", "torch": "2.11.0"},
        {"step": "ceilings", "what": "copy", "gb_per_s": 3000.0},
    ]
    for what, ms in (("ours", 60.0), ("published", 150.0), ("attention", 6000.0)):
        found.append({"step": "headline", "what": what, "length": 2**20, "ms": ms, "peak_gb": 9.0})
    for what, ms in (("torch.fft", 8.0), ("mine", 2.0)):
        figures = {"rows": 128, "length": 2**20, "forward_ms": ms, "backward_ms": 2 * ms}
        found.append({"step": "convolution", "what": what, **figures})
    return [{**row, "outcome": ""} for row in found] + [
        {"step": "headline", "what": "published, checkpointed", "length": 2**20, "outcome": "out of memory"}
    ]


def test_ratios() -> None:
    [row] = headline_rows(rows())
    assert row["published / ours"] == 2.5
    assert row["attention / ours"] == 100
    assert row["with checkpointing"] is None
    assert row["ours / least"] == pytest.approx(60 / (LEAST_GB / 3000 * 1000))
    assert convolution_table(rows()).endswith("| 128 | 1,048,576 | 24 | 4 | 1.74 |")


def test_ratios_of_graphs_and_gates() -> None:
    graphs = [{"what": "ours", "length": 1024, "how": how, "ms": ms} for how, ms in (("eager", 6.0), ("graph", 1.5))]
    found = [{"step": "graphs", "outcome": "", **row} for row in graphs]
    found += [{"step": "gates", "outcome": "", "what": "gate_pair", "block": 1024, "ms": 1.0, "gb_per_s": 1500.0}]
    text = report(rows() + found)
    assert "| ours | 1,024 | graph | 1.5 | 4 |" in text
    assert "| gate_pair | 1,024 | 1 | 1,500 | 0.5 |" in text
    assert "- headline, published, checkpointed, length 1048576: out of memory" in text


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The READMEs of this repository, with no results beside them."""
    (tmp_path / "jobs/results").mkdir(parents=True)
    for name in ("README.md", "jobs/results/README.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    return tmp_path


def test_without_results_a_sentence_says_so(clone: Path) -> None:
    write_tables(clone)
    assert UNMEASURED in (clone / "README.md").read_text()
    assert UNMEASURED in (clone / "jobs/results/README.md").read_text()


def test_the_readmes_of_this_repository_are_those_that_the_command_writes(clone: Path) -> None:
    for path in (ROOT / "jobs/results").glob("gpu-*"):
        (clone / "jobs/results" / path.name).write_bytes(path.read_bytes())
    write_tables(clone)
    for name in ("README.md", "jobs/results/README.md"):
        assert (clone / name).read_text() == (ROOT / name).read_text()


def test_with_results_and_back(clone: Path) -> None:
    before = {name: (clone / name).read_text() for name in ("README.md", "jobs/results/README.md")}
    write_report(rows(), clone / "jobs/results")
    assert read_rows(clone / "jobs/results/gpu-nvidia-x-1.csv") == rows()
    write_tables(clone)
    readme = (clone / "README.md").read_text()
    assert "On NVIDIA X-1 (torch 2.11.0, triton None): A 2 x 128 model" in readme
    assert "at 1,048,576 tokens: 60 ms; the published computation takes 2.5 x as long, attention 100 x." in readme
    assert readme.count("\n") <= 150
    tables = (clone / "jobs/results/README.md").read_text()
    assert "| 1,048,576 | 60 | 9 | 2.5 |  | 100 | " in tables
    assert "| 128 | 1,048,576 | 24 | 4 | 1.74 |" in tables
    for path in (clone / "jobs/results").glob("gpu-*"):
        path.unlink()
    write_tables(clone)
    assert UNMEASURED in (clone / "README.md").read_text()
    assert {name: (clone / name).read_text().partition(MARKS[0])[0] for name in before} == {
        name: text.partition(MARKS[0])[0] for name, text in before.items()
    }


def test_elsewhere_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"README\.md has no place for figures"):
        write_tables(tmp_path)
