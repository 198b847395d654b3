"""The MLflow store that a run uses, how long its calls may take, and what is said when it cannot be opened."""

import logging
import os
import re
import shlex
from pathlib import Path
from urllib.parse import quote, urlsplit

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


def prepare_process() -> None:
    """Keep MLflow quiet and its calls short; to be called before mlflow is imported.

    What the user has set in the environment stays.
    """
    # MLflow's own default is 7 retries over 4 minutes of 120 s requests, and training would wait for them.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
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
