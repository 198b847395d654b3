"""Files that carry more than tensors: strange ones load, hostile ones do nothing."""

import collections
import contextlib
import dataclasses
import datetime
import enum
import functools
import io
import os
import pickle
import struct
import sys
import tarfile
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hyena_dist.errors import UserError
from hyena_dist.models.weights_reader import read_state_dict

ZIP = [pytest.param(True, id="zip"), pytest.param(False, id="legacy")]


def some_tensors() -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)
    base = torch.randn(6, 4, generator=g)
    return {
        "plain": base,
        "view": base[1:, ::2],
        "transposed": base.t(),
        "parameter": torch.nn.Parameter(torch.randn(3, generator=g)),
        "half": torch.randn(3, generator=g).bfloat16(),
        "double": torch.randn(2, 2, generator=g).double(),
        "number": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "empty": torch.empty(0, 3),
    }


def same(path: Path, expected: dict[str, Tensor]) -> None:
    actual = read_state_dict(path)
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype, name
        assert torch.equal(actual[name], value), name


# --- strange files


@pytest.fixture
def passing() -> Iterator[types.ModuleType]:
    """A module that is gone when the file is read, as Lightning and OmegaConf may be."""
    module = types.ModuleType("omegaconf_like")
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


def strange_objects(module: types.ModuleType) -> dict[str, Any]:
    def into(thing: Any) -> Any:
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)
        return thing

    @into
    class Container(dict):
        """A mapping with a state of its own, as DictConfig is."""

        def __getstate__(self) -> dict[str, Any]:
            return {"_metadata": Metadata(), "_content": {"lr": 6e-4, "nested": [1, 2]}, "_parent": self}

        def __setstate__(self, state: Any) -> None:
            raise AssertionError("ran")

    @into
    @dataclasses.dataclass
    class Metadata:
        ref_type: type = int
        flags: dict[str, bool] = dataclasses.field(default_factory=dict)

    @into
    @dataclasses.dataclass(frozen=True, slots=True)
    class Slotted:
        a: int = 1

    @into
    class Colour(enum.Enum):
        RED = 1

    @into
    class Callback:
        def __init__(self) -> None:
            self.best = {"score": torch.tensor(0.5), "path": Path("a/b")}
            self.me = self

        def __hash__(self) -> int:
            return 5

    @into
    class Items(list):
        pass

    @into
    class Numbers(set):
        pass

    @into
    class Exception_(Exception):
        pass

    @into
    def function() -> None:
        pass

    @into
    class Reduced:
        """All six places that __reduce__ can fill."""

        def __reduce__(self) -> Any:
            return (function, (1,), {"x": 1}, iter([1, 2]), iter([("k", "v")]), function)

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    point = into(collections.namedtuple("Point", "x y"))
    return {
        "container": Container(a=1),
        "dataclass": Metadata(flags={"x": True}),
        "slotted": Slotted(),
        "enum": {Colour.RED: Colour},
        "callback": {Callback: Callback(), "as key": {Callback(): 1}},
        "list": Items([1, Items()]),
        "set": [Numbers({1}), {Callback()}, frozenset({Callback()})],
        "exception": Exception_("no"),
        "reduced": [Reduced(), Reduced()],
        "namedtuple": point(1, point(2, 3)),
        "defaultdict": collections.defaultdict(list, a=[1]),
        "defaultdict of unknown": collections.defaultdict(Items, a=Items([2])),
        "counter": collections.Counter("abca"),
        "deque": collections.deque([1, 2], maxlen=3),
        "partial": functools.partial(function, 1, b=2),
        "functions": [function, print, torch.nn.functional.gelu, torch.hub.load, np.random.default_rng],
        "numpy": [np.float64(1.5), np.int64(3), np.arange(4), np.dtype("f4"), np.random.default_rng(0)],
        "torch": [torch.float16, torch.Size([1, 2]), torch.device("cpu"), torch.Generator().get_state()],
        "sparse": torch.eye(3).to_sparse(),
        "rare type": torch.zeros(3, dtype=torch.uint16),
        "module": torch.nn.Linear(2, 3),
        "optimizer": [optimizer.state_dict(), optimizer],
        "dates": [datetime.datetime(2023, 6, 28), datetime.timedelta(1)],
        "plain": [1, 2.5, None, True, "x", b"y", 1j, (1, (2,)), {1, 2}, bytearray(b"z"), range(3), slice(1, 2)],
    }


KINDS = list(strange_objects(types.ModuleType("names")))


@pytest.mark.parametrize("zipped", ZIP)
@pytest.mark.parametrize("kind", [*KINDS, "all"])
def test_unknown_classes_beside_the_tensors(kind: str, zipped: bool, passing: types.ModuleType, tmp_path: Path) -> None:
    objects = strange_objects(passing)
    extra = list(objects.values()) if kind == "all" else objects[kind]
    tensors = some_tensors()
    content = {"hyper_parameters": extra, "state_dict": collections.OrderedDict(tensors), "callbacks": {"x": extra}}
    for protocol in (2, 4, 5):
        torch.save(content, tmp_path / "w.ckpt", _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
        sys.modules.pop(passing.__name__, None)
        same(tmp_path / "w.ckpt", tensors)
        sys.modules[passing.__name__] = passing


@pytest.mark.parametrize("zipped", ZIP)
def test_tensors_at_the_top(zipped: bool, tmp_path: Path) -> None:
    tensors = some_tensors()
    torch.save(tensors, tmp_path / "w.ckpt", _use_new_zipfile_serialization=zipped)
    same(tmp_path / "w.ckpt", tensors)


def test_other_things_in_the_state_dict_are_left_out(tmp_path: Path) -> None:
    state = collections.OrderedDict({"a": torch.ones(2), "b": 3, 4: torch.ones(1), "c": Reduce(len, [1])})
    state._metadata = {"version": 1}  # type: ignore[attr-defined]
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    same(tmp_path / "w.ckpt", {"a": torch.ones(2)})


# --- hostile files


class Reduce:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., Any], *args: Any, state: Any = None) -> None:
        self._call = (function, args) if state is None else (function, args, state)

    def __reduce__(self) -> Any:
        return self._call


def inner_file(path: str) -> bytes:
    """A pickle that touches `path`, for functions that read pickles."""
    stream = io.BytesIO()
    torch.save(Reduce(os.system, f"touch {path}"), stream)
    return stream.getvalue()


CANARY = "canary"
ATTACKS: dict[str, Callable[[], Any]] = {
    "os.system": lambda: Reduce(os.system, f"touch {CANARY}"),
    "subprocess": lambda: Reduce(__import__("subprocess").check_output, ["touch", CANARY]),
    "eval": lambda: Reduce(eval, f"open({CANARY!r}, 'w')"),
    "exec": lambda: Reduce(exec, f"open({CANARY!r}, 'w')"),
    "open": lambda: Reduce(open, CANARY, "w"),
    "partial": lambda: Reduce(functools.partial(os.system, f"touch {CANARY}")),
    "map": lambda: Reduce(list, Reduce(map, os.system, [f"touch {CANARY}"])),
    "state": lambda: Reduce(types.SimpleNamespace, state={"x": Reduce(os.mkdir, CANARY)}),
    "pickle.loads": lambda: Reduce(pickle.loads, pickle.dumps(Reduce(os.mkdir, CANARY))),
    "storage from bytes": lambda: Reduce(torch.storage._load_from_bytes, inner_file(CANARY)),
    "torch.save": lambda: Reduce(torch.save, 1, CANARY),
    "hub": lambda: Reduce(functools.partial(torch.hub.load, ".", "go", source="local")),
    "dump": lambda: Reduce(np.ndarray.tofile, np.arange(3), CANARY),
    "deep": lambda: {"a": [{"b": (Reduce(os.mkdir, CANARY),)}]},
    "key": lambda: {Reduce(os.mkdir, CANARY): 1},
}


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd/hubconf.py").write_text(f"import os\ndef go():\n    os.mkdir({CANARY!r})\n")
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path / "cwd"


@pytest.mark.parametrize("zipped", ZIP)
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_runs(attack: str, zipped: bool, cwd: Path) -> None:
    tensors = some_tensors()
    places: list[Any] = [
        {"state_dict": tensors, "x": ATTACKS[attack]()},
        {"x": ATTACKS[attack](), "state_dict": collections.OrderedDict(tensors)},
        {"state_dict": {**tensors, "x": ATTACKS[attack]()}},
    ]
    for number, content in enumerate(places):
        path = cwd.parent / f"{number}.ckpt"
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        same(path, tensors)
        assert [p.name for p in cwd.iterdir()] == ["hubconf.py"]


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_attack_is_real(attack: str, cwd: Path) -> None:
    torch.save({"x": ATTACKS[attack]()}, cwd.parent / "w.ckpt")
    torch.load(cwd.parent / "w.ckpt", weights_only=False)
    assert (cwd / CANARY).exists()


# Below: pickles that no class writes, made by hand. Only opcodes of protocol 2, whose letters are in pickletools.


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def mapping(**values: bytes) -> bytes:
    return b"}(" + b"".join(text(k) + v for k, v in values.items()) + b"u"


def legacy(body: bytes) -> bytes:
    """A torch file of before 1.6 around the opcodes of its main object."""
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}]
    return b"".join(pickle.dumps(part, protocol=2) for part in head) + b"\x80\x02" + body + pickle.dumps([], protocol=2)


BUILDERS = ["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"]


@pytest.mark.parametrize("name", [f"torch._utils {b}" for b in BUILDERS] + [
    "collections OrderedDict", "torch Size", "torch FloatStorage", "torch UntypedStorage", "torch.storage TypedStorage",
    "torch float32", "os _Inert", "torch.nn Linear",
])  # fmt: skip
def test_attributes_cannot_be_set_on_what_the_file_names(name: str, cwd: Path) -> None:
    # torch's reader of old files writes "<__name__>.patch" for a "module" whose dump_patches is set. The source code in
    # it comes from the file, and so did the name and the switch, while the file could get hold of a real function.
    module, attribute = name.split()
    named = f"c{module}\n{attribute}\n".encode()
    attributes = mapping(dump_patches=b"\x88", __name__=text(str(cwd / "written")), __defaults__=b")", __doc__=b"N")
    build = named + b"(N" + attributes + b"tbq\x01"  # BUILD with (None, attributes) sets them one by one
    as_module = b"(" + text("module") + b"h\x01" + text("x.py") + text("source\n") + b"tQ"
    before = {b: _attributes(getattr(torch._utils, b)) for b in BUILDERS}
    (cwd.parent / "w.ckpt").write_bytes(legacy(build + as_module + b"00}."))
    with pytest.raises(UserError):
        read_state_dict(cwd.parent / "w.ckpt")
    assert [p.name for p in cwd.iterdir()] == ["hubconf.py"]
    assert {b: _attributes(getattr(torch._utils, b)) for b in BUILDERS} == before
    assert not hasattr(torch.UntypedStorage, "dump_patches")
    assert not hasattr(torch.storage.TypedStorage, "dump_patches")


def _attributes(function: Any) -> tuple[Any, ...]:
    return (function.__name__, function.__defaults__, function.__doc__, function.__code__, dict(vars(function)))


def test_an_ordered_dict_with_attributes_of_its_methods(tmp_path: Path) -> None:
    names = dict.fromkeys(("items", "get", "keys", "__class__"), "not callable")
    torch.save(Reduce(collections.OrderedDict, {"a": torch.ones(2)}, state=names), tmp_path / "w.ckpt")
    same(tmp_path / "w.ckpt", {"a": torch.ones(2)})


class Script(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self) -> bool:
        return self.training

    @torch.jit.export
    def __setstate__(self, state: bool) -> None:
        print("ran")
        self.training = state


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_a_torchscript_archive_is_refused_before_its_code_runs(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.jit.save(torch.jit.script(Script()), tmp_path / "w.ckpt")
    capfd.readouterr()
    refused(tmp_path / "w.ckpt")
    assert capfd.readouterr().out == ""
    torch.load(tmp_path / "w.ckpt", weights_only=False)
    assert "ran" in capfd.readouterr().out, "the attack is real"


def test_a_tar_of_the_oldest_format_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "w.ckpt", "w") as tar:
        for name in ("storages", "tensors", "pickle"):
            content = pickle.dumps(Reduce(os.mkdir, str(tmp_path / CANARY)), protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    refused(tmp_path / "w.ckpt")
    assert not (tmp_path / CANARY).exists()


# --- damaged files


def refused(path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert str(path) in message
    assert "; " in message
    assert "\n" not in message
    assert ". " not in message.replace("...", ""), "more than one sentence"


@pytest.mark.parametrize("zipped", ZIP)
def test_truncated(zipped: bool, tmp_path: Path) -> None:
    torch.save(
        {"state_dict": some_tensors(), "x": Reduce(len, [1])}, tmp_path / "w", _use_new_zipfile_serialization=zipped
    )
    content = (tmp_path / "w").read_bytes()
    for size in (0, 1, 2, 10, 100, len(content) // 2, len(content) - 1):
        (tmp_path / "cut").write_bytes(content[:size])
        refused(tmp_path / "cut")


@pytest.mark.parametrize(
    "content", [b"hello world", b"\x89HDF\r\n", b"PK\x03\x04", b"\0" * 1000, b"\x80\x02.", b"\x80"]
)
def test_not_a_torch_file(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    refused(tmp_path / "w")


@pytest.mark.parametrize("content", [5, [torch.ones(1)], {}, {"a": 1}, {"state_dict": [torch.ones(1)]}, torch.ones(2)])
def test_no_tensors_where_they_should_be(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w")
    with pytest.raises(UserError, match="holds no tensors under 'state_dict'"):
        read_state_dict(tmp_path / "w")


def test_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "absent")
    refused(tmp_path)


@functools.cache
def small_file(zipped: bool) -> bytes:
    stream = io.BytesIO()
    content = {"state_dict": {"a": torch.ones(2)}, "x": collections.deque([1])}
    torch.save(content, stream, _use_new_zipfile_serialization=zipped)
    return stream.getvalue()


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    zipped=st.booleans(),
    flips=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_any_flipped_bytes_load_or_are_refused(zipped: bool, flips: list[tuple[int, int]], tmp_path: Path) -> None:
    content = bytearray(small_file(zipped))
    for at, value in flips:
        content[at % len(content)] = value
    (tmp_path / "w").write_bytes(content)
    with contextlib.suppress(UserError):
        assert all(isinstance(t, Tensor) for t in read_state_dict(tmp_path / "w").values())
