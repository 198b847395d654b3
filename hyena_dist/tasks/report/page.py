"""A page of text, tables and pictures, as Markdown with pictures beside it and as one HTML file that holds them."""

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ddd }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; text-align: left; border-bottom: 1px solid #eee; white-space: nowrap }
img { max-width: 100% }
""".strip()


class Table(NamedTuple):
    """Rows of texts under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Picture(NamedTuple):
    """A PNG file below the page's folder, and what it shows."""

    path: Path
    caption: str


class Section(NamedTuple):
    """A heading and what stands below it; a text is a paragraph."""

    title: str
    parts: Sequence[str | Table | Picture]


def to_markdown(title: str, sections: Sequence[Section], folder: Path) -> str:
    """Return the page as Markdown that stands in `folder`."""
    parts = [f"# {title}"]
    for section in sections:
        parts.append(f"## {section.title}")
        for part in section.parts:
            if isinstance(part, Table):
                lines = [part.header, ["---"] * len(part.header), *part.rows]
                parts.append(
                    "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
                )
            elif isinstance(part, Picture):
                parts.append(f"![{part.caption}]({part.path.relative_to(folder).as_posix()})")
            else:
                parts.append(part)
    return "\n\n".join(parts) + "\n"


def to_html(title: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML that needs no other file."""
    body = [f"<h1>{_text(title)}</h1>"]
    for section in sections:
        body.append(f"<h2>{_text(section.title)}</h2>")
        body += [_html(part) for part in section.parts]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _html(part: str | Table | Picture) -> str:
    if isinstance(part, Table):
        head, *rows = (
            "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in row) + "</tr>"
            for tag, row in [("th", part.header), *(("td", row) for row in part.rows)]
        )
        return f'<div class="wide"><table><thead>{head}</thead><tbody>\n' + "\n".join(rows) + "\n</tbody></table></div>"
    if isinstance(part, Picture):
        data = base64.b64encode(part.path.read_bytes()).decode()
        return f'<p><img alt="{html.escape(part.caption)}" src="data:image/png;base64,{data}"></p>'
    return f"<p>{_text(part)}</p>"


def _text(text: str) -> str:
    return html.escape(text, quote=False)
