import dataclasses
import errno
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
        if start >= len(content):
            self.send_error(416)
            return
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


def files_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


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


def test_a_part_that_is_too_long_is_begun_anew(server, tmp_path):
    file = dataclasses.replace(remote(server, checksum=None), size=None)
    (tmp_path / "images.bin.part").write_bytes(CONTENT + b"more")
    with pytest.raises(FetchError, match="as long as the file or longer"):
        fetch.download(file, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fetch.download(file, tmp_path).read_bytes() == CONTENT


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
    fetch.download(file, tmp_path)  # verified by what was kept, so not asked for again
    assert len(server.asked) == 1
    path.write_bytes(CONTENT[:-1])  # altered on disk: downloaded again
    assert fetch.download(file, tmp_path).read_bytes() == CONTENT
    path.unlink()
    server.files["/images.bin"] = CONTENT[::-1]  # altered at its source
    with pytest.raises(FetchError, match=f"expected sha256:{digest}"):
        fetch.download(file, tmp_path)
    assert not path.exists()


def test_too_little_space_is_said_before_the_download(server, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1 << 20})
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(FetchError, match="1 MiB free, but 1 MiB are needed"):
        fetch.download(remote(server), tmp_path)
    assert server.asked == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_disk_that_fills_during_the_download(server, tmp_path):
    part = tmp_path / "images.bin.part"
    part.symlink_to("/dev/full")
    with pytest.raises(FetchError, match=r"images\.bin\.part: the disk is full; free some space"):
        fetch.download(remote(server), tmp_path)
    assert server.asked == [("/images.bin", None)]
    assert not (tmp_path / "images.bin").exists()
    part.unlink()
    assert fetch.download(remote(server), tmp_path).read_bytes() == CONTENT


def test_no_connection_and_no_file(server, tmp_path):
    with pytest.raises(FetchError, match="404"):
        fetch.download(RemoteFile("x.bin", f"{server.url}/x.bin"), tmp_path)
    with pytest.raises(FetchError, match=r"no list of files .*zenodo\.org/records/12"):
        fetch.record_files(12, zenodo=f"{server.url}/records")


def serve_record(server, archive, *, name="data.zip", checksum=True):
    """The record of the released files, with one archive in it; arguments for ``fetch.fetch``."""
    server.files[f"/files/{name}"] = archive
    entry = {"key": name, "size": len(archive), "links": {"self": f"{server.url}/files/{name}"}}
    if checksum:
        entry["checksum"] = f"md5:{hashlib.md5(archive).hexdigest()}"
    number = fetch.SOURCES["released"].record
    server.files[f"/records/{number}"] = json.dumps({"files": [entry]}).encode()
    return {"name": "released", "zenodo": f"{server.url}/records"}


@pytest.mark.parametrize("checksum", [True, False], ids=["published", "kept at the first fetch"])
def test_a_record_is_fetched_and_unpacked(server, tmp_path, checksum):
    members = {"SDM_generated_data/all/a.png": b"a", "SDM_generated_data/all/b.png": b"b"}
    record = serve_record(server, zipped(members), checksum=checksum)
    paths = fetch.fetch(target=tmp_path, **record)
    assert [path.name for path in paths] == ["data.zip"]
    assert (tmp_path / "SDM_generated_data/all/b.png").read_bytes() == b"b"
    assert (tmp_path / "downloads" / "checksums.json").is_file() != checksum
    fetch.fetch(target=tmp_path, **record)  # finds it complete
    assert sum(path == "/files/data.zip" for path, _ in server.asked) == 1


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt"])
def test_a_hostile_member_writes_nothing(server, tmp_path, name):
    record = serve_record(server, zipped({"good.txt": b"good", name: b"evil"}))
    target = tmp_path / "target"
    with pytest.raises(FetchError, match="nothing was unpacked"):
        fetch.fetch(target=target, **record)
    assert files_below(tmp_path) == ["target/downloads/data.zip"]
    assert not Path("/tmp/outside.txt").exists()


def tarred(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "pack", "module"),
    [("data.zip", zipped, shutil), ("data.tar.gz", tarred, tarfile)],
    ids=["zip", "tar"],
)
def test_a_disk_that_fills_while_unpacking_leaves_no_half(
    server, tmp_path, monkeypatch, name, pack, module
):
    members = {"set/a.txt": b"first", "set/b.txt": b"second", "set/c.txt": b"third"}
    record = serve_record(server, pack(members), name=name)
    copy, copied = module.copyfileobj, []

    def fills(source, target, *arguments, **options):
        copied.append(target)
        if len(copied) == 2:
            target.write(b"se")
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(module, "copyfileobj", fills)
        with pytest.raises(FetchError, match=rf"{name}: the disk is full; .*free some space"):
            fetch.fetch(target=tmp_path, **record)
    assert len(copied) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["downloads"]
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == [name]
    fetch.fetch(target=tmp_path, **record)
    assert {n: (tmp_path / n).read_bytes() for n in members} == members


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
    archive.write_bytes(zipped({"0.txt": b"new", "a.txt": b"new"}))
    (tmp_path / "target").mkdir(exist_ok=True)
    (tmp_path / "target" / "a.txt").write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"a\.txt: exists and differs"):
        fetch.extract(archive, tmp_path / "target")
    assert files_below(tmp_path / "target") == ["a.txt"]
    assert (tmp_path / "target" / "a.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["camus", "echonet"])
def test_a_registration_is_explained(tmp_path, name):
    with pytest.raises(FetchError, match="Register at https://") as error:
        fetch.fetch(name, tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_a_target_that_cannot_be_written_is_named(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(fetch, "record_files", lambda *_, **__: [remote(server)])
    name = next(name for name, source in fetch.SOURCES.items() if source.record)
    with pytest.raises(SystemExit, match=r"file/there: .*choose another folder by --target"):
        fetch.main([name, "--target", str(tmp_path / "file/there")])


def test_the_command_lists_and_refuses(capsys):
    fetch.main([])
    listed = capsys.readouterr().out
    assert all(name in listed for name in fetch.SOURCES)
    with pytest.raises(FetchError, match="data set 'camos', expected one of"):
        fetch.fetch("camos", "x")
