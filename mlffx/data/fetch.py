"""The paper's data from its public repository: resumable, verified, and in plain words when there is no network."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from mlffx.data.paper import COMMIT, FILES, LICENCE_NOTE, REPOSITORY, git_blob_id
from mlffx.errors import UserError

DEFAULT_URL = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}"
ATTEMPTS = 3
TIMEOUT_S = 30
_BLOCK = 1 << 16

Progress = Callable[[str, int, int | None], None]  # file, bytes so far, bytes in all if known


def fetch(
    target: Path,
    url: str = DEFAULT_URL,
    files: Mapping[str, str] = FILES,
    progress: Progress | None = None,
    attempts: int = ATTEMPTS,
    pause: float = 1.0,
) -> dict[str, str]:
    """Bring files into a directory; what is already there and verified is left alone.

    A broken transfer is kept as `NAME.part` and continued, in this call or the next one.

    Args:
        target: directory; made if it is not there.
        url: base to which the relative paths are added: http(s)://, file://, or a directory.
        files: relative path -> git blob id.
        progress: called as bytes arrive.
        attempts: tries a file before giving up.
        pause: before the second attempt, s; longer before each further one.

    Returns:
        relative path -> `kept` or `fetched`.

    Raises:
        UserError: without a network, for a file that does not exist there, or whose content is not the published one.
    """
    done, failures = {}, []
    for file, blob in files.items():
        place = target / file
        if place.is_file() and git_blob_id(place) == blob:
            done[file] = "kept"
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _fetch_one(_source(url, file), place, blob, partial(_tell, progress, file), attempts, pause)
        except OSError as error:
            raise UserError(
                f"the directory cannot be written ({error.strerror})", "set --to DIR or MLFFX_CACHE", target
            ) from error
        except _NotThereError as error:
            failures.append(error)  # one file less is no reason to leave the others
            continue
        done[file] = "fetched"
    if done and not (target / "SOURCE.txt").is_file():
        (target / "SOURCE.txt").write_text(LICENCE_NOTE + "\n", encoding="utf-8")
    if failures:
        more = f" (and {len(failures) - 1} other files)" if len(failures) > 1 else ""
        raise UserError(
            failures[0].what + more, f"the other {len(done)} files are there; check --url", failures[0].where
        )
    return done


class _NotThereError(UserError):
    """The server, or the directory, does not have this file."""


def _source(url: str, file: str) -> str:
    """Full address of a file below a base that is a URL or a directory."""
    if "://" not in url:
        return (Path(url).resolve() / file).as_uri()
    return url.rstrip("/") + "/" + urllib.parse.quote(file)


def _tell(progress: Progress | None, file: str, have: int, total: int | None) -> None:
    if progress is not None:
        progress(file, have, total)


def _fetch_one(
    source: str, place: Path, blob: str, progress: Callable[[int, int | None], object], attempts: int, pause: float
) -> None:
    part = place.with_name(place.name + ".part")
    reason = ""
    for attempt in range(attempts):
        time.sleep(pause * attempt)
        try:
            complete = _continue(source, part, progress)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (403, 404, 410):
                raise _NotThereError(f"the server says {error.code} {error.reason}", "", source) from error
            # 416: nothing is left to send of what we have in part, so it is complete, or not ours at all
            reason, complete = f"the server says {error.code} {error.reason}", error.code == 416 and part.is_file()
        except PermissionError:
            raise
        except (OSError, http.client.HTTPException) as error:
            inner = getattr(error, "reason", error)
            if isinstance(inner, FileNotFoundError):
                raise _NotThereError("no such file", "", source) from error
            unreachable = isinstance(error, urllib.error.URLError | TimeoutError)
            reason, complete = f"no answer ({inner})" if unreachable else str(inner), False
        if not complete:
            continue
        if git_blob_id(part) == blob:
            part.replace(place)
            return
        reason = f"its content (git blob {git_blob_id(part)[:10]}) is not the published one ({blob[:10]})"
        part.unlink()  # start over: nothing of it can be trusted
    kept = f"{part.stat().st_size} bytes are kept, run the same command again to continue" if part.is_file() else ""
    raise UserError(f"not fetched in {attempts} attempts: {reason}", kept or "check the network, or --url", source)


def _continue(source: str, part: Path, progress: Callable[[int, int | None], object]) -> bool:
    """Append what is missing to `part`; OSError when the transfer ends before the announced length."""
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(source, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        if have and getattr(answer, "status", None) != 206:
            have = 0  # the server does not resume (or this is a file): begin again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with part.open("ab" if have else "wb") as stream:
            while block := answer.read(_BLOCK):
                stream.write(block)
                have += len(block)
                progress(have, total)
    if total is not None and have < total:
        raise OSError(f"it broke off after {have} of {total} bytes")
    return True
