"""Fetching resumes, verifies, and says in one line what went wrong; against a server on this machine."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mlffx.data import __main__ as entry
from mlffx.data import paper
from mlffx.data.fetch import DEFAULT_URL, fetch
from mlffx.errors import UserError

CONTENT = {"c/a.xyz": np.random.default_rng(0).bytes(300_000), "lih/b.xyz": b"few bytes\n"}
FILES = {
    name: hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    for name, data in CONTENT.items()
}


class Server(ThreadingHTTPServer):
    """Serves CONTENT; the attributes make it misbehave."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str | None]] = []
        self.break_after: int | None = None
        self.breaks_left = 0
        self.ranges = True
        self.corrupt_left = 0
        self.errors_left = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, name = self.server, self.path.lstrip("/")
        asked = self.headers.get("Range")
        server.requests.append((name, asked))
        if name not in CONTENT:
            return self.send_error(404, "Not Found")
        if server.errors_left:
            server.errors_left -= 1
            return self.send_error(503, "Busy")
        data = CONTENT[name]
        if server.corrupt_left:
            server.corrupt_left -= 1
            data = b"x" + data[1:]
        first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.ranges else 0
        if first >= len(data):
            return self.send_error(416, "Range Not Satisfiable")
        self.send_response(206 if first else 200)
        self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        body = data[first:]
        if server.break_after is not None and server.breaks_left:
            server.breaks_left -= 1
            body = body[: server.break_after]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def verified(target: Path) -> bool:
    return all((target / name).read_bytes() == data for name, data in CONTENT.items())


def test_files_arrive_with_progress_and_their_source(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    done = fetch(tmp_path, server.url, FILES, lambda *news: seen.append(news), pause=0)
    assert done == {"c/a.xyz": "fetched", "lih/b.xyz": "fetched"}
    assert verified(tmp_path)
    assert ("c/a.xyz", 300_000, 300_000) in seen and len(seen) > 3
    assert "no licence is stated" in (tmp_path / "SOURCE.txt").read_text()
    assert not list(tmp_path.rglob("*.part"))


def test_what_is_there_and_verified_is_left_alone(server: Server, tmp_path: Path) -> None:
    fetch(tmp_path, server.url, FILES, pause=0)
    server.requests.clear()
    (tmp_path / "lih/b.xyz").write_bytes(b"edited\n")
    assert fetch(tmp_path, server.url, FILES, pause=0) == {"c/a.xyz": "kept", "lih/b.xyz": "fetched"}
    assert [name for name, _ in server.requests] == ["lih/b.xyz"]
    assert verified(tmp_path)


def test_a_broken_transfer_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.break_after, server.breaks_left = 100_000, 1
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path)
    assert server.requests[:2] == [("c/a.xyz", None), ("c/a.xyz", "bytes=100000-")]


def test_and_by_the_next_call(server: Server, tmp_path: Path) -> None:
    server.break_after, server.breaks_left = 100_000, 1
    with pytest.raises(UserError, match=r"a.xyz: not fetched in 1 attempts: it broke off after 100000 of 300000"):
        fetch(tmp_path, server.url, FILES, attempts=1, pause=0)
    assert (tmp_path / "c/a.xyz.part").stat().st_size == 100_000
    assert not (tmp_path / "c/a.xyz").exists()
    server.requests.clear()
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path) and server.requests[0] == ("c/a.xyz", "bytes=100000-")


def test_a_server_that_does_not_resume_begins_again(server: Server, tmp_path: Path) -> None:
    server.break_after, server.breaks_left, server.ranges = 100_000, 1, False
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path)


def test_a_complete_part_needs_no_more_bytes(server: Server, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.xyz.part").write_bytes(CONTENT["c/a.xyz"])
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path)


def test_corrupt_content_is_fetched_again_and_never_kept(server: Server, tmp_path: Path) -> None:
    server.corrupt_left = 1
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path)
    (tmp_path / "c/a.xyz").unlink()
    server.corrupt_left = 9
    with pytest.raises(
        UserError, match=r"its content \(git blob .{10}\) is not the published one \(.{10}\); check the network"
    ):
        fetch(tmp_path, server.url, FILES, pause=0)
    assert not (tmp_path / "c/a.xyz").exists() and not (tmp_path / "c/a.xyz.part").exists()


def test_a_part_of_something_else_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c/a.xyz.part").write_bytes(b"x" * 400_000)
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path)


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.errors_left = 1
    fetch(tmp_path, server.url, FILES, pause=0)
    assert verified(tmp_path)
    (tmp_path / "c/a.xyz").unlink()
    server.errors_left = 9
    with pytest.raises(
        UserError, match=r"not fetched in 3 attempts: the server says 503 Busy; check the network, or --url"
    ):
        fetch(tmp_path, server.url, FILES, pause=0)


def test_one_file_less_does_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    files = {"c/no.xyz": "0" * 40} | FILES
    with pytest.raises(
        UserError, match=r"c/no.xyz: the server says 404 Not Found; the other 2 files are there; check --url"
    ):
        fetch(tmp_path, server.url, files, pause=0)
    assert verified(tmp_path)


@pytest.mark.parametrize("as_url", [True, False])
def test_from_a_directory(tmp_path: Path, as_url: bool) -> None:
    source = tmp_path / "copy"
    for name, data in CONTENT.items():
        (source / name).parent.mkdir(parents=True)
        (source / name).write_bytes(data)
    fetch(tmp_path / "cache", source.as_uri() if as_url else str(source), FILES, pause=0)
    assert verified(tmp_path / "cache")
    (source / "lih/b.xyz").unlink()
    with pytest.raises(UserError, match=r"lih/b.xyz: no such file; the other 1 files are there"):
        fetch(tmp_path / "another", str(source), FILES, pause=0)


def test_without_a_network_one_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    server.shutdown()
    server.server_close()  # a port at which nobody listens any more
    assert entry.main(["fetch", "--to", str(tmp_path / "x"), "--url", server.url, "--only", "c/"]) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(told) == 1
    assert told[0].startswith(f"error: {server.url}/c/200221forcc.xyz: not fetched in 3 attempts: no answer (")
    assert told[0].endswith("; check the network, or --url")


def test_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(entry, "FILES", FILES)
    monkeypatch.setenv("MLFFX_CACHE", str(tmp_path))
    assert entry.main(["fetch", "--url", server.url]) == 0
    assert entry.main(["fetch", "--url", server.url]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "2 files fetched, 0 already there and verified" in told
    assert "0 files fetched, 2 already there and verified" in told
    assert verified(paper.fetched_directory())


def test_the_default_is_the_pinned_commit() -> None:
    assert DEFAULT_URL.startswith("https://raw.githubusercontent.com/waup-1/MLphononsdata/d13cfd2")
    assert len(paper.FILES) == 11 and all(len(blob) == 40 for blob in paper.FILES.values())


def test_a_file_where_the_directory_should_be(tmp_path: Path, server: Server) -> None:
    (tmp_path / "c").write_text("")
    with pytest.raises(UserError, match=r"cannot be written"):
        fetch(tmp_path, server.url, FILES, pause=0)
