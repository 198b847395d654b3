"""The facts that a job needs of a cluster: one small YAML file, beside the run's own."""

from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator

from hyena_dist.config.file import explain
from hyena_dist.config.section import Section
from hyena_dist.errors import UserError


class Container(Section):
    """The container that ranks run in. Its image holds this package; the job layer itself runs outside."""

    runtime: Literal["apptainer", "enroot"] = Field(description="enroot by SLURM's pyxis plugin: `slurm` launcher only")
    image: str = Field(description="a file, or what the runtime pulls")
    mounts: tuple[str, ...] = Field((), description="`/path` or `/outside:/inside`; run folder and data must be in one")
    options: tuple[str, ...] = Field((), description="further options of `apptainer exec`, or of srun for enroot")


class Cluster(Section):
    """Facts of a cluster; what is not given is left to the scheduler."""

    partition: str | None = Field(None, description="of SLURM, as the next three")
    account: str | None = Field(None, description="who pays")
    qos: str | None = Field(None, description="quality of service")
    constraint: str | None = Field(None, description="features that nodes must have")
    time: str | None = Field(None, description='time limit of a job as sbatch takes it, quoted: "24:00:00"')
    exclusive: bool = Field(False, description="ask for whole nodes")
    gpus_per_node: int | None = Field(None, ge=0, description="0: ranks on CPUs; this machine's number if not given")
    cpus_per_task: int | None = Field(None, gt=0, description="of a rank")
    ranks_by: Literal["srun", "torchrun", "deepspeed"] = Field(
        "srun",
        description="what starts the ranks of a SLURM job: srun alone, srun a torchrun on each node, deepspeed an srun",
    )
    stop_signal: Literal["USR1", "USR2", "XCPU"] = Field("USR1", description="what asks for an end before the limit")
    signal_s: int = Field(300, ge=10, description="it comes so many seconds before the limit: time to save in")
    requeue: bool = Field(True, description="whether jobs may be queued again; if not, use --array")
    max_restarts: int = Field(3, ge=0, description="crashes in a row without progress before a job gives up")
    sbatch: tuple[str, ...] = Field((), description="further #SBATCH options, for example `--mem=0`")
    srun: tuple[str, ...] = Field((), description="further options of srun")
    modules: tuple[str, ...] = Field((), description="environment modules to load")
    setup: tuple[str, ...] = Field((), description="further lines of the script, run before the ranks start")
    environment: dict[str, str] = Field({}, description="variables to export: NCCL, fabric, OMP_NUM_THREADS")
    python: str | None = Field(None, description="the Python whose environment jobs use; this command's if not given")
    container: Container | None = Field(None, description="`runtime`, `image`, `mounts`, `options`; none if not given")
    hosts: tuple[str, ...] = Field((), description="machines for `deepspeed` and `torchrun` on several nodes, no SLURM")
    port: int = Field(29_500, gt=0, lt=65_536, description="of the first of `hosts`, where the others find it")

    @field_validator("time", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        # YAML reads 24:00:00 as 86400, and SLURM that as minutes.
        if value is not None and not isinstance(value, str):
            raise ValueError(f'time {value} must be quoted, else YAML makes a number of it; write "24:00:00"')
        return value

    @field_validator("environment", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if isinstance(value, dict):
            return {name: str(v) if isinstance(v, int) and not isinstance(v, bool) else v for name, v in value.items()}
        return value


def load_cluster(source: str | None) -> Cluster:
    """Read a cluster's YAML.

    Args:
        source: a file, or the name of one in jobs/clusters; the defaults if not given.

    Raises:
        UserError: there is no such file or name, or it has an unknown key (the nearest is named) or a wrong value.
    """
    if source is None:
        return Cluster()
    packaged = resources.files("jobs") / "clusters"
    names = sorted(file.name.removesuffix(".yaml") for file in packaged.iterdir() if file.name.endswith(".yaml"))
    try:
        is_name = source in names and not Path(source).exists()
        text = (packaged / f"{source}.yaml" if is_name else Path(source)).read_text()
        tree = yaml.safe_load(text)
    except OSError as error:
        raise UserError(
            f"cannot read the cluster file {source}: {error.strerror}; name a YAML file or one of {', '.join(names)}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict | None):
        raise UserError(f"{source} holds no cluster: write a YAML mapping such as `partition: gpu`")
    try:
        return Cluster.model_validate(tree or {})
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, Cluster)}") from error


def dump_cluster(cluster: Cluster) -> str:
    """Return the YAML that load_cluster reads back: what differs from the defaults."""
    tree = cluster.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(tree, sort_keys=False) if tree else "# the defaults\n"
