"""Archives unpacked safely: nothing outside the target, nothing half-written in it."""

import errno
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

import pooch

from echo_lib.provenance import atomic_path

_RESERVE = 64 << 20  # bytes of the disk that a download leaves free


class FetchError(RuntimeError):
    """A download that cannot be made or trusted; the message says what to do."""


def extract(archive, target):
    """Unpack a .zip or .tar archive into ``target``; nothing is written outside of it.

    All members are checked before the first is written; they are unpacked beside the archive and
    moved into the target when complete.

    Raises:
        FetchError: not an archive, a member outside the target, a link, a name that is there, a
            full disk.
    """
    archive, target = Path(archive), Path(target)
    mark = archive.with_name(f"{archive.name}.unpacked")
    if mark.is_file() and mark.stat().st_mtime >= archive.stat().st_mtime:
        return
    opener = zipfile.ZipFile if archive.suffix == ".zip" else tarfile.open
    try:
        with opener(archive) as file, atomic_path(mark) as beside:
            members = _members(file)
            _require_safe(archive, members, target)
            require_space(archive.parent, sum(size for _, size, _ in members))
            options = {} if isinstance(file, zipfile.ZipFile) else {"filter": "data"}
            try:
                file.extractall(beside, **options)
                _move_into(beside, target)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
            beside.touch()
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise FetchError(f"{archive}: not a readable archive ({error}); fetch it again") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise FetchError(
            f"{archive}: the disk is full; what was unpacked so far is removed, free some space "
            "and fetch again"
        ) from error


def _members(file):
    """(name, size, is plain file or folder) of every member."""
    if isinstance(file, zipfile.ZipFile):
        return [
            (m.filename, m.file_size, not stat.S_ISLNK(m.external_attr >> 16))
            for m in file.infolist()
        ]
    return [(m.name, m.size, m.isfile() or m.isdir()) for m in file.getmembers()]


def _require_safe(archive, members, target):
    root = target.resolve()
    for name, _, plain in members:
        inside = (root / name).resolve().is_relative_to(root)
        if not inside or not plain or Path(name).is_absolute() or "\\" in name:
            raise FetchError(
                f"{archive}: member {name!r} is a link or lies outside {target}; the archive is "
                "not what it should be, nothing was unpacked"
            )


def _move_into(beside, target):
    """Move files under the same names; where one is there and differs, none is moved."""
    paths = sorted(path for path in beside.rglob("*") if path.is_file())
    places = [target / path.relative_to(beside) for path in paths]
    for path, place in zip(paths, places, strict=True):
        if place.exists() and pooch.file_hash(str(place)) != pooch.file_hash(str(path)):
            raise FetchError(f"{place}: exists and differs from the archive's; move it away first")
    for path, place in zip(paths, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def require_space(folder, size):
    """Raise unless the disk of ``folder`` has ``size`` bytes free, and some to spare."""
    free = shutil.disk_usage(folder).free
    if size + _RESERVE > free:
        raise FetchError(
            f"{folder}: {free >> 20} MiB free, but {max(0, size) >> 20} MiB are needed; free some "
            "space or choose another --target"
        )
