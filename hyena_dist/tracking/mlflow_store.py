"""The MLflow store that a run uses, how long its calls may take, and what is said when it cannot be opened."""

import contextlib
import logging
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

from hyena_dist.system.locks import lock
from hyena_dist.system.programs import program


def resolve(uri: str | None, root: Path | None) -> tuple[str, str | None]:
    """Return the tracking URI and where a new experiment's artifacts go; None leaves that to the store.

    Args:
        uri: Tracking URI, or None for ``MLFLOW_TRACKING_URI`` or else ``root/mlflow.db``.
        root: Folder of the default store; it is created.
    """
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri, None
    if root is None:
        raise ValueError("without a tracking URI, MLflow needs a folder for its SQLite file")
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    return _sqlite_uri(root / "mlflow.db"), (root / "mlartifacts").as_uri()


def _sqlite_uri(path: Path) -> str:
    """Return the URI of a SQLite file, in which ? and %20, as the SQLAlchemy that is installed reads them, are its own.

    Raises:
        OSError: no URI can name the file.
    """
    from sqlalchemy.engine import make_url

    for text in (str(path), quote(str(path))):
        if make_url(f"sqlite:///{text}").database == str(path):
            return f"sqlite:///{text}"
    raise OSError(f"no URI can name {path}")


@contextlib.contextmanager
def creating(uri: str) -> Iterator[None]:
    """Let one process at a time open a store that is a SQLite file, since MLflow creates the tables of a new one then.

    A new file gets the rights that the umask leaves, not SQLite's own 0644, so that a group can share it.

    Raises:
        PermissionError: this user may not write the file, or beside it.
    """
    path = _sqlite_file(uri)
    if path is None:
        yield
        return
    wrong = next((p for p in (path, path.absolute().parent) if p.exists() and not os.access(p, os.W_OK)), None)
    if wrong:
        raise PermissionError(f"{wrong} belongs to {_owner(wrong)} and you may not write it, which chmod g+w allows")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(PermissionError):  # of another user, who has therefore made the store
            stack.enter_context(lock(path.with_name(f".{path.name}.lock"), required=False))
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield


def _sqlite_file(uri: str) -> Path | None:
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return Path(name) if name else None  # None: in memory


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, OSError):  # a number without a name
        return f"user {path.stat().st_uid}"


def prepare_process() -> None:
    """Keep MLflow quiet and its calls short; to be called before mlflow is imported.

    What the user has set in the environment stays.
    """
    # MLflow's own default is 7 retries over 4 minutes of 120 s requests, and training would wait for them.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # mlflow may have been imported already; alembic reports each migration; urllib3 reports each retry.
    for name in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def ui_command(uri: str) -> str:
    """Return the command, or for a server the address, that shows the runs."""
    if uri.startswith(("http://", "https://")):
        return without_password(uri)
    return f"{program('mlflow')} ui --backend-store-uri {shlex.quote(uri)}"


def without_password(uri: str) -> str:
    """Return a URI without the user name and password that it may hold."""
    return re.sub(r"://[^/@\s]*@", "://***@", uri)


def reason(error: Exception) -> str:
    """Return the cause of an error in one short line: MLflow wraps a network error several times."""
    text = " ".join(str(error).split("[SQL:")[0].split())  # SQLAlchemy adds the statement and a link.
    for known in ("Connection refused", "timed out", "Name or service not known", "Max retries exceeded"):
        if known in text:
            return known[0].lower() + known[1:]
    return text[:200] or type(error).__name__


def cannot_open(uri: str, error: Exception) -> str:
    """Return the sentence for a store that cannot be opened, with its fix."""
    start = f"the MLflow store {without_password(uri)} cannot be opened ({reason(error)})"
    if uri.startswith(("http://", "https://")):
        server = urlsplit(uri)
        port = server.port or (443 if server.scheme == "https" else 80)
        fix = f"start it with `mlflow server --host {server.hostname} --port {port}`"
    else:
        fix = "name another store with tracking.uri"
    return f"{start}: {fix}, or train without MLflow with tracking.mlflow=false"
