"""RunConfig from a YAML file and `key=value` overrides, and back; mistakes become one sentence."""

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from hyena_dist.config.run import RunConfig
from hyena_dist.config.task import SCRATCH
from hyena_dist.errors import UserError
from hyena_dist.system.urls import as_url

_SQLITE = "sqlite:///"
_FILES = ("path", "train", "valid", "test", "genome")
"""Fields of `task.data` that name files."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read a YAML file, apply `key=value` overrides (dotted keys, YAML values) and validate.

    Raises:
        UserError: unreadable file, unknown key (the nearest is named), wrong type or value.
    """
    return parse_config(load_tree(path, overrides), str(path))


def load_tree(path: str | Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a YAML file and apply `key=value` overrides, whatever the keys.

    Raises:
        UserError: unreadable file, or an override that is none.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(f"cannot read the run file {path}: {error.strerror}; name an existing YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} holds no run: a run file is a YAML mapping with at least data and train")
    override(tree, overrides)
    return tree


def override(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set keys of a tree as `key=value` says.

    Raises:
        UserError: an override that is none, or whose key lies below a plain value.
    """
    for text in overrides:
        _apply(tree, text)


def parse_config(tree: dict[str, Any], source: str) -> RunConfig:
    """Validate a plain tree; `source` is named in errors."""
    try:
        return RunConfig.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, RunConfig)}") from error


def dump_config(config: BaseModel) -> str:
    """Return the resolved configuration as YAML that load_config reads back."""
    tree = config.model_dump(mode="json")
    for section in ("init", "task"):
        if tree.get(section, ...) is None:
            del tree[section]
    for path in tree.pop("auto", ()):
        section, key = path.split(".")
        tree[section][key] = "auto"
    train = tree.get("train", {})
    if "curriculum" in train:  # what a stage leaves to the run would bury what it says
        train["curriculum"] = [_explicit_fields(stage) for stage in train["curriculum"]]
    return yaml.safe_dump(tree, sort_keys=False)


def dump_record(config: RunConfig) -> str:
    """Return the configuration as `dump_config` does, with paths that mean the same from every folder."""
    tree = yaml.safe_load(dump_config(config))
    tree["output_dir"] = os.path.abspath(tree["output_dir"])
    data, tracking = tree["data"], tree["tracking"]
    if as_url(data["path"]) is None:
        data["path"] = os.path.abspath(data["path"])
    if init := tree.get("init"):
        init["model"] = os.path.abspath(init["model"])
    if task := tree.get("task"):
        task["data"] |= {key: os.path.abspath(path) for key in _FILES if (path := task["data"][key])}
        if task["model"] != SCRATCH:
            task["model"] = os.path.abspath(task["model"])
    if (tracking["uri"] or "").startswith(_SQLITE):
        tracking["uri"] = _SQLITE + os.path.abspath(tracking["uri"].removeprefix(_SQLITE))
    for parallel in (tree["parallel"], *(stage.get("parallel", {}) for stage in tree["train"]["curriculum"])):
        if Path(parallel.get("zero", "")).is_file():
            parallel["zero"] = os.path.abspath(parallel["zero"])
    return yaml.safe_dump(tree, sort_keys=False)


def _explicit_fields(tree: dict[str, Any]) -> dict[str, Any]:
    """Return a tree without its null values and empty sections."""
    items = ((key, _explicit_fields(value) if isinstance(value, dict) else value) for key, value in tree.items())
    return {key: value for key, value in items if value is not None and value != {}}


def _apply(tree: dict[str, Any], override: str) -> None:
    key, sep, value = override.partition("=")
    if not sep or not key:
        raise UserError(f"override '{override}' is not key=value; write for example optimizer.lr=3e-4")
    *parents, last = key.split(".")
    node: Any = tree
    for i, part in enumerate([*parents, last]):
        is_last = i == len(parents)
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node) + is_last:
                raise UserError(f"override '{override}': '{part}' is not an index below {len(node)}")
            index: Any = int(part)
            if index == len(node):
                node.append(None)
        elif isinstance(node, dict):
            index = part
            if not is_last and node.get(part) is None:
                node[part] = {}
        else:
            raise UserError(f"override '{override}': '{part}' is below a plain value; check the dots in the key")
        if is_last:
            try:
                node[index] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise UserError(f"override '{override}': '{value}' is not a YAML value; quote or mend it") from error
        else:
            node = node[index]


def explain(error: ValidationError, root: type[BaseModel]) -> str:
    """Return the first error in a tree of sections as one sentence; for an unknown key, the nearest known one."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        *parents, key = first["loc"]
        known = list(_fields(_section_at(root, parents)))
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key '{where}'; {hint}"
    if first["type"] == "missing":
        return f"'{where}' is missing; add it to the file or pass {where}=..."
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return message
    return f"{where} = {first['input']!r} is not valid: {message[0].lower()}{message[1:]}"


def _section_at(section: type[BaseModel], path: Sequence[str | int]) -> type[BaseModel]:
    for part in path:
        if isinstance(part, int):
            continue
        annotation = _fields(section)[part].annotation
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        section = next(a for a in inner if issubclass(a, BaseModel))
    return section


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a section by the keys of a run file."""
    return {field.alias or name: field for name, field in section.model_fields.items()}
