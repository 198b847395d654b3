"""Pages show what they are given, whatever letters it has."""

from pathlib import Path

from hyena_dist.tasks.report.page import Picture, Section, Table, to_html, to_markdown

TABLE = Table(["class", "f1"], [["a|b", "<0.5>"]])


def test_markdown_has_tables_and_pictures_beside_it(tmp_path: Path) -> None:
    picture = Picture(tmp_path / "plots" / "roc.png", "curves")
    text = to_markdown("splice", [Section("Result", ["One sentence.", TABLE, picture])], tmp_path)
    assert text == (
        "# splice\n\n## Result\n\nOne sentence.\n\n| class | f1 |\n| --- | --- |\n| a\\|b | <0.5> |\n\n"
        "![curves](plots/roc.png)\n"
    )


def test_html_holds_its_pictures_and_escapes_letters(tmp_path: Path) -> None:
    (tmp_path / "roc.png").write_bytes(b"png")
    page = to_html("a < b", [Section("Result", [TABLE, Picture(tmp_path / "roc.png", 'say "x"')])])
    assert "<h1>a &lt; b</h1>" in page
    assert "<td>a|b</td><td>&lt;0.5&gt;</td>" in page
    assert '<img alt="say &quot;x&quot;" src="data:image/png;base64,cG5n">' in page
