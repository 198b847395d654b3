"""Docstrings are sentences, or noun phrases, that a reader who has not seen the body understands.

A program cannot judge that; it finds the forms that riddles take: fragments that begin in the middle of a thought ("Of
each row."), that lean on what stands elsewhere ("The same for shards."), or that are too short to say anything.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("hyena_dist", "data_prep", "jobs", "tests")

LEANING = (
    "Above", "Also", "And", "As", "Because", "Below", "But", "Ditto", "It", "Its", "Like", "Likewise", "Of", "Or",
    "Same", "See", "So", "Such", "Than", "That", "Their", "Them", "Then", "These", "They", "Those", "Thus", "Too",
)  # fmt: skip
"""First words after which a text leans on something that the reader has not seen."""
LEANING_ENTRIES = ("As", "Ditto", "For", "Like", "Likewise", "Of", "Same", "See")
"""First words that make an entry lean; an entry may lean on those before it, as "its manifest" does."""
CLAUSES = ("How", "What", "When", "Where", "Whether", "Which", "Who", "Whose", "Why")
"""First words of a clause without a main verb, which can say what a value is and cannot say what a function does."""
PREPOSITIONS = ("After", "At", "Before", "By", "For", "From", "If", "In", "On", "Since", "To", "With", "Without")
"""First words that begin a sentence only where a comma and a main clause follow, as in "Without a store, it fails"."""
ENDINGS = (".", "?", "!", ":", '."', ".)", ".`")


class Text(NamedTuple):
    """A docstring, or one entry of its Args, Attributes or Yields."""

    line: int
    kind: str
    """One of "module", "class", "function", "value" (a field, a constant, a property) and "entry"."""
    text: str


def docstrings(tree: ast.Module) -> Iterator[Text]:
    """All docstrings of a module, those of fields and constants among them, and the entries of their sections."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                line = node.body[0].lineno
                yield Text(line, kind_of(node), text)
                yield from entries(line, text)
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.Assign | ast.AnnAssign) and isinstance(after, ast.Expr):
                    value = after.value
                    if isinstance(value, ast.Constant) and isinstance(value.value, str):
                        yield Text(after.lineno, "value", value.value)


def kind_of(node: ast.AST) -> str:
    if isinstance(node, ast.Module):
        return "module"
    if isinstance(node, ast.ClassDef):
        return "class"
    names = [ast.unparse(each) for each in getattr(node, "decorator_list", [])]
    return "value" if any(name.endswith("property") for name in names) else "function"


def entries(line: int, text: str) -> Iterator[Text]:
    """The entries of the sections that describe values by name."""
    section = ""
    for number, each in enumerate(text.splitlines()):
        if heading := re.fullmatch(r"([A-Z][a-z]+):", each):
            section = heading[1]
        elif section in ("Args", "Attributes") and (entry := re.match(r"    (\w+): (.*)", each)):
            yield Text(line + number, "entry", entry[2])


def offence(found: Text) -> str | None:
    """Return what is wrong with a text, if anything is."""
    summary = " ".join(found.text.strip().split("\n\n")[0].split())
    first = re.match(r"[`'\"(]*([A-Za-z]*)", summary)[1]
    words = re.split(r"(?<=[a-z\])`\"'])[.;] ", summary)[0].split()
    if found.kind == "entry":
        return "leans on another text" if first.capitalize() in LEANING_ENTRIES else None
    if not re.match(r"[A-Z`0-9\"]", summary):
        return "does not begin with a capital letter"
    if not summary.endswith(ENDINGS):
        return "does not end its first paragraph with a full stop"
    if first in LEANING or (first in PREPOSITIONS and "," not in summary):
        return "leans on another text"
    if summary.lower().startswith(("the same ", "the rest ")):
        return "leans on another text"
    if first in CLAUSES and found.kind != "value":
        return "is a clause without a main verb"
    if len(words) < 3:
        return "has fewer than three words"
    return None


def offences(path: Path) -> list[str]:
    """The offending docstrings of a file, as file:line: text (what is wrong)."""
    return [
        f"{path.relative_to(ROOT)}:{found.line}: {found.text.splitlines()[0]!r} ({wrong})"
        for found in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if (wrong := offence(found))
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_are_sentences(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = [line for file in files for line in offences(file)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("function", "Of each row."),
        ("function", "The same in all of it."),
        ("value", "So much more of it."),
        ("value", "of the tar"),
        ("value", "Bases."),
        ("value", "float32 [A, B, S], weight of each target."),
        ("function", "Which windows may be read."),
        ("function", "With what is `auto` filled in."),
        ("module", "Likewise for shards."),
        ("function", "Return the sum"),
        ("class", "Those of some starts."),
        ("entry", "of the run."),
        ("entry", "as for `fetch`."),
    ],
)
def test_riddles_are_found(kind: str, text: str) -> None:
    assert offence(Text(1, kind, text))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("function", "Return the sum."),
        ("function", "`fetch` brings one file: it resumes what was interrupted."),
        ("value", "Whether the window is read from the opposite strand, bool."),
        ("value", "Weight of each target in the loss, float32 [A, B, S]."),
        ("module", "The windows that an evaluation scores.\n\nthe rest is free"),
        ("module", "Without a terminal, long work says where it is every few seconds."),
        ("entry", "seed of the run."),
    ],
)
def test_sentences_pass(kind: str, text: str) -> None:
    assert offence(Text(1, kind, text)) is None


def test_every_kind_of_docstring_is_seen() -> None:
    source = '''"""M."""
A = 1
"""V."""
class C:
    """K.

    Args:
        a: of b.
    """
    x: int
    """F."""
    @property
    def p(self) -> int:
        """P."""
    def f(self) -> int:
        """G."""
        def g() -> None:
            """H."""
'''
    found = {(text.kind, text.text.split("\n")[0]) for text in docstrings(ast.parse(source))}
    assert found == {
        ("module", "M."), ("value", "V."), ("class", "K."), ("entry", "of b."), ("value", "F."), ("value", "P."),
        ("function", "G."), ("function", "H."),
    }  # fmt: skip
