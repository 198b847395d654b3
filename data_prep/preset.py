"""Presets: YAML files that name the files of public genomes and how `data build` makes a store of them."""

import re
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hyena_dist.errors import UserError

# A preset:
#
#     description: one line
#     files:
#       - url: https://host/path/genome.fa.gz
#         name: genome.fa.gz           # under the download folder, and below --source
#         megabytes: 900               # about
#         checksum: unknown            # or md5:..., sha256:..., or the URL of the provider's list for md5sum -c
#         use: fasta                   # or bed, or labelled: sequences of a task, of which no store is built
#         species: human               # the label for `data build`; none by default
#         # for files of one sequence:
#         contig: chr1                 # its name in the store; as in the file by default
#         # for such files that differ in one part of their names:
#         each: [1, 2, X]              # goes in the place of {} in url, name and contig; megabytes is of all together
#         valid: [1]                   # those whose sequence validates
#         test: [2]                    # those whose sequence tests; the others train
#     build: [--soft-mask]             # further arguments of `data build`

_SCHEMES = ("https://", "http://", "pipe:")


class _Strict(BaseModel):
    """A part of a preset, which may have no other fields than its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _checksum(text: str) -> str:
    """Validate the field `checksum`."""
    if not re.fullmatch(r"unknown|md5:[0-9a-fA-F]{32}|sha256:[0-9a-fA-F]{64}", text) and not text.startswith(_SCHEMES):
        raise ValueError("neither unknown, md5:..., sha256:... nor the URL of a list")
    return text


def _below(name: str) -> str:
    """Validate the field `name`, which must be a path below a folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError("not a path below a folder")
    return name


class File(_Strict):
    """A file to fetch; the comment at the head of this file says what each field means."""

    url: str
    name: Annotated[str, AfterValidator(_below)]
    megabytes: float
    checksum: Annotated[str, AfterValidator(_checksum)]
    use: Literal["fasta", "bed", "labelled"] = "fasta"
    species: str | None = None
    contig: str | None = None
    split: Literal["train", "valid", "test"] | None = None

    @property
    def list_name(self) -> str:
        """Path of the provider's list of checksums below --source, which is beside the file."""
        return str(PurePosixPath(self.name).with_name(PurePosixPath(self.checksum).name))


class _Entry(File):
    """An entry of a preset, which stands for one file or for one file for each of its parts."""

    each: list[str | int] = Field(default=[], exclude=True)
    valid: list[str | int] = Field(default=[], exclude=True)
    test: list[str | int] = Field(default=[], exclude=True)

    @model_validator(mode="after")
    def _fits(self) -> "_Entry":
        """Validate that the fields fit together."""
        for part in (*self.valid, *self.test):
            if part not in self.each or (part in self.valid and part in self.test):
                raise ValueError(f"{part} in valid or test is not in each, or in both")
        if bool(self.each) != ("{}" in self.url and "{}" in self.name):
            raise ValueError("each goes with {} in url and in name")
        return self

    def files(self) -> list[File]:
        """Return the files that the entry stands for."""
        common = self.model_dump()
        if not self.each:
            return [File(**common)]
        split = {**dict.fromkeys(self.valid, "valid"), **dict.fromkeys(self.test, "test")}
        held_out = bool(split)
        return [
            File(
                **common
                | {
                    "url": self.url.replace("{}", str(part)),
                    "name": self.name.replace("{}", str(part)),
                    "contig": self.contig and self.contig.replace("{}", str(part)),
                    "megabytes": self.megabytes / len(self.each),
                    "split": split.get(part, "train") if held_out else None,
                }
            )
            for part in self.each
        ]


class _Document(_Strict):
    """The content of a preset's YAML file."""

    description: str
    files: list[_Entry] = Field(min_length=1)
    build: list[str] = []


class Preset:
    """The files of public genomes to fetch, and how to build a store of them.

    Attributes:
        name: name of the preset.
        description: one line for the user.
        files: files to fetch.
        build: further arguments of `data build`.

    Args:
        name: name of the preset.
        text: content of the YAML file.
        where: the file, for errors.

    Raises:
        UserError: The text is not a preset.
    """

    def __init__(self, name: str, text: str, where: str) -> None:
        try:
            document = _Document.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise UserError(f"{where} is not YAML ({' '.join(str(error).split())}); correct it") from error
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "it"
            raise UserError(
                f"{where} is not a preset ({place}: {first['msg']}); correct it, or compare it with the presets of "
                f"data_prep/presets"
            ) from error
        self.name = name
        self.description = document.description
        self.build = document.build
        self.files = [file for entry in document.files for file in entry.files()]

    @property
    def is_labelled(self) -> bool:
        """Whether the files are for `hyena-dist finetune` as they are, so that there is no store to build."""
        return all(file.use == "labelled" for file in self.files)

    @property
    def megabytes(self) -> float:
        """About the size of all files, in units of 10^6 bytes."""
        return sum(file.megabytes for file in self.files)


def _folder() -> Any:
    """Return the folder of the presets that come with this program."""
    return resources.files("data_prep") / "presets"


def preset_names() -> list[str]:
    """Return the names of the presets that come with this program."""
    return sorted(file.name.removesuffix(".yaml") for file in _folder().iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """Load a preset.

    Args:
        name: name of a preset that comes with this program, or path of a YAML file like theirs.

    Raises:
        UserError: There is no such preset, or the file cannot be read or is not a preset.
    """
    if name in preset_names():
        return Preset(name, (_folder() / f"{name}.yaml").read_text(encoding="utf-8"), f"preset {name}")
    if not name.endswith((".yaml", ".yml")):
        raise UserError(
            f"preset {name!r} is not one of {', '.join(preset_names())}; use one of these or a YAML file like theirs"
        )
    try:
        return Preset(Path(name).stem, Path(name).read_text(encoding="utf-8"), name)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name} cannot be read ({error}); check the path") from error
