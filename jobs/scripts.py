"""Job scripts from Jinja2 templates. Whatever a template fills in is quoted for the shell."""

import shlex
import shutil
from importlib import resources
from pathlib import Path

import jinja2

from hyena_dist.errors import UserError
from jobs.job import Job, Segment

PACKAGED = Path(str(resources.files("jobs") / "templates"))


class Plain(str):
    """Text that goes into a script as it is: comments, lines of shell."""


def render(name: str, job: Job, templates: Path | None = None, segment: Segment | None = None, **more: object) -> str:
    """Fill in a template.

    Args:
        name: the template's file name without .j2.
        job: what to run.
        templates: a folder of the user's that is looked into first.
        segment: the part of the job that the script is for; all of it if not given.
        more: further variables of the template.

    Raises:
        UserError: the template is wrong; the message has the line.
    """
    folders = [PACKAGED] if templates is None else [templates, PACKAGED]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        undefined=jinja2.StrictUndefined,
        finalize=_quote,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"plain": Plain, "words": shlex.join, "pattern": _pattern}
    context = {
        "job": job,
        "cluster": job.cluster,
        "segments": [segment] if segment else job.segments,
        "segment": segment,
        **more,
    }
    try:
        return environment.get_template(f"{name}.j2").render(context)
    except jinja2.TemplateSyntaxError as error:
        where = f"{error.filename or error.name} line {error.lineno}"
        raise UserError(f"the template {where} is wrong: {error.message}; mend it, or leave --templates out") from error
    except Exception as error:  # what a user's template computes may fail in any way
        at = _line(error)
        where = at or next((str(f / f"{name}.j2") for f in folders if (f / f"{name}.j2").exists()), name)
        raise UserError(f"the template {where} fails: {error}; mend it, or leave --templates out") from error


def copy_templates(folder: Path) -> list[Path]:
    """Write the packaged templates to a folder, for `--templates`; returns the files.

    Raises:
        UserError: a template is there already, or the folder cannot be written.
    """
    sources = sorted(PACKAGED.glob("*.j2"))
    for source in sources:
        if (folder / source.name).exists():
            raise UserError(f"{folder / source.name} exists and may be yours; name another folder, or delete it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copyfile(source, folder / source.name)) for source in sources]
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; name another folder") from error


def _pattern(path: Path) -> str:
    """Return a path as SLURM takes names of output files, in which %j and the like stand for something."""
    return str(path).replace("%", "%%")


def _quote(value: object) -> str:
    return value if isinstance(value, Plain) else shlex.quote(str(value))


def _line(error: BaseException) -> str | None:
    """Find the file and line of a template where an error arose: Jinja2 puts them into the traceback."""
    found, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.endswith(".j2"):
            found = f"{trace.tb_frame.f_code.co_filename} line {trace.tb_lineno}"
        trace = trace.tb_next
    return found
