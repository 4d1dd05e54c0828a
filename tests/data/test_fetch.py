import errno
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from echo_lib.data import fetch
from echo_lib.data.fetch import FetchError, RemoteFile

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.files``; ``server.cut`` ends the next answers after so many bytes."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        if self.path not in self.server.files:
            self.send_error(404)
            return
        content, start = self.server.files[self.path], 0
        if (wanted := self.headers.get("Range")) and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = len(content) if self.server.cut is None else self.server.cut
        self.wfile.write(content[start:end])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    """A server on the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.asked, server.cut, server.ranges = {}, [], None, True
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def remote(server, *, checksum="right", name="images.bin"):
    server.files[f"/{name}"] = CONTENT
    digest = hashlib.md5(CONTENT).hexdigest()
    known = {"right": f"md5:{digest}", "wrong": "md5:" + "0" * 32, None: None}[checksum]
    return RemoteFile(name, f"{server.url}/{name}", known, len(CONTENT))


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("ranges", [True, False], ids=["server resumes", "server starts over"])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    file, server.ranges = remote(server), ranges
    server.cut = 300_000
    with pytest.raises(FetchError, match=r"(?s)images\.bin.*fetch again to go on"):
        fetch.download(file, tmp_path)
    assert (tmp_path / "images.bin.part").stat().st_size == 300_000
    assert not (tmp_path / "images.bin").exists()
    server.cut = None
    path = fetch.download(file, tmp_path)
    assert path.read_bytes() == CONTENT
    assert server.asked[-1] == ("/images.bin", "bytes=300000-")
    assert [p.name for p in tmp_path.iterdir()] == ["images.bin"]


def test_a_complete_file_is_not_asked_for_again(server, tmp_path):
    file = remote(server)
    fetch.download(file, tmp_path)
    fetch.download(file, tmp_path)
    assert len(server.asked) == 1


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(FetchError, match=r"checksum md5:[0-9a-f]{32}, expected md5:0{32}"):
        fetch.download(remote(server, checksum="wrong"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_checksum_is_kept_and_holds(server, tmp_path, capsys):
    file = remote(server, checksum=None)
    path = fetch.download(file, tmp_path)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert json.loads((tmp_path / "checksums.json").read_text()) == {
        "images.bin": f"sha256:{digest}"
    }
    assert "no checksum is published" in capsys.readouterr().out
    path.unlink()
    server.files["/images.bin"] = CONTENT[::-1]
    with pytest.raises(FetchError, match=f"expected sha256:{digest}"):
        fetch.download(file, tmp_path)


def test_a_full_disk_is_said_before_and_during(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1 << 20})
    with monkeypatch.context() as patch:
        patch.setattr(fetch.shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(FetchError, match="1 MiB free, but 1 MiB are needed"):
            fetch.download(remote(server), tmp_path)
    assert server.asked == []

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_copy", full)
    with pytest.raises(FetchError, match="the disk is full; free some space"):
        fetch.download(remote(server), tmp_path)


def test_no_connection_and_no_file(server, tmp_path):
    with pytest.raises(FetchError, match="404"):
        fetch.download(RemoteFile("x.bin", f"{server.url}/x.bin"), tmp_path)
    with pytest.raises(FetchError, match=r"no list of files .*zenodo\.org/records/12"):
        fetch.record_files(12, zenodo=f"{server.url}/records")


def test_a_record_is_fetched_and_unpacked(server, tmp_path, capsys):
    archive = zipped({"SDM_generated_data/all/a.png": b"a", "SDM_generated_data/all/b.png": b"b"})
    server.files["/files/data.zip"] = archive
    entry = {
        "key": "data.zip",
        "size": len(archive),
        "checksum": f"md5:{hashlib.md5(archive).hexdigest()}",
        "links": {"self": f"{server.url}/files/data.zip"},
    }
    number = fetch.SOURCES["released"].record
    server.files[f"/records/{number}"] = json.dumps({"files": [entry]}).encode()
    paths = fetch.fetch("released", tmp_path, zenodo=f"{server.url}/records")
    assert [path.name for path in paths] == ["data.zip"]
    assert (tmp_path / "SDM_generated_data/all/b.png").read_bytes() == b"b"
    fetch.fetch("released", tmp_path, zenodo=f"{server.url}/records")  # finds it complete
    assert sum(path == "/files/data.zip" for path, _ in server.asked) == 1


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt"])
def test_a_hostile_member_writes_nothing(tmp_path, name):
    archive = tmp_path / "downloads" / "evil.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({"good.txt": b"good", name: b"evil"}))
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(FetchError, match="nothing was unpacked"):
        fetch.extract(archive, target)
    assert list(target.iterdir()) == []
    assert not (tmp_path / "outside.txt").exists()


def test_a_link_in_a_tar_is_refused(tmp_path):
    archive = tmp_path / "evil.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        file.addfile(link)
    with pytest.raises(FetchError, match="member 'link' is a link"):
        fetch.extract(archive, tmp_path / "target")


def test_a_broken_archive_and_a_name_in_use(tmp_path):
    broken = tmp_path / "data.zip"
    broken.write_bytes(b"PK no archive")
    with pytest.raises(FetchError, match="not a readable archive"):
        fetch.extract(broken, tmp_path / "target")
    archive = tmp_path / "other.zip"
    archive.write_bytes(zipped({"a.txt": b"new"}))
    (tmp_path / "target").mkdir(exist_ok=True)
    (tmp_path / "target" / "a.txt").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"a\.txt: exists and differs"):
        fetch.extract(archive, tmp_path / "target")
    assert (tmp_path / "target" / "a.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["camus", "echonet"])
def test_a_registration_is_explained(tmp_path, name):
    with pytest.raises(FetchError, match="Register at https://") as error:
        fetch.fetch(name, tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_the_command_lists_and_refuses(capsys):
    fetch.main([])
    listed = capsys.readouterr().out
    assert all(name in listed for name in fetch.SOURCES)
    with pytest.raises(FetchError, match="data set 'camos', expected one of"):
        fetch.fetch("camos", "x")
