"""The cluster's YAML: what it takes, and how mistakes in it read."""

import re
from pathlib import Path

import pytest
import yaml

from hyena_dist.errors import UserError
from jobs.cluster import Cluster, Container, dump_cluster, load_cluster

NAMES = sorted(path.stem for path in (Path(__file__).parents[3] / "jobs/clusters").glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_packaged(name: str, tmp_path: Path) -> None:
    cluster = load_cluster(name)
    (tmp_path / "again.yaml").write_text(dump_cluster(cluster))
    assert load_cluster(str(tmp_path / "again.yaml")) == cluster


def test_example_has_every_key() -> None:
    tree = yaml.safe_load((Path(__file__).parents[3] / "jobs/clusters/example.yaml").read_text())
    assert set(tree) == set(Cluster.model_fields)
    assert set(tree["container"]) == set(Container.model_fields)


def test_none() -> None:
    assert load_cluster(None) == Cluster()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("partitoin: gpu", "unknown key 'partitoin'; did you mean 'partition'?"),
        ("container: {runtime: apptainer, imag: x}", "'container.image' is missing"),
        (
            "container: {runtime: apptainer, image: x, mount: [y]}",
            "unknown key 'container.mount'; did you mean 'mounts'?",
        ),
        ("time: 24:00:00", 'time 86400 must be quoted, else YAML makes a number of it; write "24:00:00"'),
        ("ranks_by: mpirun", "ranks_by = 'mpirun' is not valid"),
        ("- gpu", "holds no cluster"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_mistakes(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        load_cluster(str(tmp_path / "mine.yaml"))


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="name a YAML file or one of a100, example, local"):
        load_cluster("a1000")


def test_numbers_in_environment(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("environment: {OMP_NUM_THREADS: 8}")
    assert load_cluster(str(tmp_path / "mine.yaml")).environment == {"OMP_NUM_THREADS": "8"}


def test_readme_explains_every_key() -> None:
    """The table of jobs/README.md has a row for each key, with its default and the words of its description."""
    rows = [line for line in (Path(__file__).parents[3] / "jobs/README.md").read_text().splitlines() if "|" in line]
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows}
    fields = {**Cluster.model_fields, **{f"container.{name}": f for name, f in Container.model_fields.items()}}
    for name, field in fields.items():
        default = (
            ""
            if field.is_required() or field.default in (None, (), {})
            else yaml.safe_dump(field.default).split("\n")[0]
        )
        meaning = cells[f"`{name}`"]
        assert meaning[0] == default, name
        if field.description:
            assert meaning[1] == field.description, name
