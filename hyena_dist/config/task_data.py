"""TaskData: the labelled sequences of a task, and how they are read and split."""

from typing import Literal

from pydantic import Field, model_validator

from hyena_dist.config.section import Section


class TaskData(Section):
    """The labelled sequences of a task."""

    path: str | None = Field(
        None,
        description="a CSV, TSV, Parquet, FASTA or BED file, or a folder: train.csv, dev.csv and test.csv, or "
        "train/CLASS/*.txt and test/CLASS/*.txt",
    )
    train: str | None = Field(None, description="in place of path: a file for each split")
    valid: str | None = Field(None, description="see train; cut from train if not given")
    test: str | None = Field(None, description="see train")
    format: Literal["auto", "table", "fasta", "intervals", "class_folders", "species"] = Field(
        "auto",
        description="what the files are; auto: told from their names and first lines; species: path is a store of "
        "labelled species, whose random windows are told apart",
    )
    genome: str | None = Field(None, description="FASTA file that intervals are of")
    sequence: str = Field("sequence", description="column of sequences")
    labels: tuple[str, ...] = Field(
        (), description="columns of labels; `label` if there is one, otherwise all that are nothing else"
    )
    split: str = Field("split", description="column of splits: train, valid (or dev) and test")
    kind: Literal["auto", "single_label", "multi_label", "regression", "per_base"] = Field(
        "auto", description="what labels say; regression is never guessed"
    )
    valid_fraction: float = Field(0.1, gt=0, lt=1, description="share of train that becomes valid, where there is none")
    test_fraction: float = Field(0.1, gt=0, lt=1, description="share that becomes test, where there is no split")
    folds: int = Field(
        0,
        ge=0,
        description="parts of a cross-validation; a part is held out as valid, or as test where the data has none",
    )
    fold: int = Field(0, ge=0, description="which part is held out, counted from 0")
    on_leaks: Literal["warn", "drop", "refuse"] = Field(
        "warn",
        description="what becomes of train sequences that valid or test have too: kept, with metrics given without "
        "them as well; drop: left out of train, so that test stays what others report on; refuse: no run",
    )

    @model_validator(mode="after")
    def _is_complete(self) -> "TaskData":
        if (self.path is None) == (self.train is None):
            raise ValueError("name the labelled sequences by `path`, or by a file of each split in `train` and `test`")
        if self.path is not None and (self.valid or self.test):
            raise ValueError(f"path is {self.path!r}, which has all splits; name `train` with `valid` and `test`")
        if self.folds == 1 or self.fold >= max(self.folds, 1):
            raise ValueError(f"fold {self.fold} of {self.folds} is none; choose 2 folds or more, and one from 0 on")
        return self
