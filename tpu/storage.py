"""Work directories as the launcher and the workers see them: local folders, or a bucket.

A worker writes local files only. Of a bucket it sees the place where the backend mounts it, MOUNT;
the launcher itself talks to the bucket through `gcloud storage`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tpu.errors import LaunchError

SCHEME = "gs://"
MOUNT = "/mnt/rlx"  # where every backend mounts the bucket on every host
# Checkpoints are committed by renaming a folder; gcsfuse refuses that by default on flat buckets.
MOUNT_OPTIONS = "implicit-dirs,rename-dir-limit=10000"
PROBE = ".rlx-write-probe"


def is_bucket(place: str) -> bool:
    """Say whether `place` is in a bucket."""
    return place.startswith(SCHEME)


def bucket_of(place: str) -> str:
    """Return `bucket` of `gs://bucket/a/b`."""
    return place.removeprefix(SCHEME).partition("/")[0]


def seen_by_workers(place: str) -> str:
    """Return the path of `place` on a worker: under MOUNT if it is in a bucket."""
    if not is_bucket(place):
        return place
    inner = place.removeprefix(SCHEME).partition("/")[2].strip("/")
    return f"{MOUNT}/{inner}".rstrip("/")


def check_writable(place: str) -> None:
    """Write and delete a small file in `place`; raise LaunchError if that cannot be done."""
    if is_bucket(place):
        target = f"{place.rstrip('/')}/{PROBE}"
        _gcloud("cp", "-", target, stdin="rlx\n", what=f"workdir '{place}' cannot be written")
        _gcloud("rm", target, what=f"workdir '{place}' cannot be written")
        return
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=PROBE, dir=place):
            pass
    except OSError as error:
        raise LaunchError(f"workdir '{place}' cannot be written: {error.strerror}") from error


def read(place: str) -> str | None:
    """Return the text of one file, None if it is not there; a `*` means the first that matches."""
    if is_bucket(place):
        done = _run_gcloud("cat", place)
        if done.returncode and not _says_no_object(done.stderr, bucket_of(place)):
            raise LaunchError(f"{place} cannot be read: {_last_line(done.stderr)}")
        return None if done.returncode else done.stdout
    path = Path(place)
    if "*" in place:
        folder, pattern = place.split("/*", 1)
        matches = sorted(Path(folder).glob(f"*{pattern}"))
        path = matches[0] if matches else path
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise LaunchError(f"{path} cannot be read: {error.strerror}") from error


def _says_no_object(stderr: str, bucket: str) -> bool:
    """Say whether gcloud found the bucket and not the object; a misspelt bucket is an error."""
    text = stderr.lower()
    no_bucket = re.search(rf"gs://{re.escape(bucket)}/?['\"]? not found", text)
    if no_bucket or "bucket does not exist" in text or "bucket not found" in text:
        return False
    return "matched no objects" in text or "not found" in text


def _gcloud(*args: str, what: str, stdin: str = "") -> None:
    done = _run_gcloud(*args, stdin=stdin)
    if done.returncode:
        raise LaunchError(f"{what}: {_last_line(done.stderr)}")


def _run_gcloud(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    if shutil.which("gcloud") is None:
        raise LaunchError("gs:// workdirs need the tool gcloud, which is not on the PATH")
    command = ["gcloud", "storage", *args]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["gcloud gave no reason"])[-1]
