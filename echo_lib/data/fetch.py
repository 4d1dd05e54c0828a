"""Download of what may be downloaded: resumed, verified, unpacked safely.

    python -m echo_lib.data.fetch                     # what there is
    python -m echo_lib.data.fetch released            # into data/released

Zenodo's own record gives the names, sizes and checksums of its files. A file without a known
checksum gets one at its first download, kept in ``checksums.json`` beside it. Data sets whose
licence asks for a registration are not downloaded: the command says where to go.
"""

import argparse
import errno
import json
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pooch

from echo_lib.data.unpacking import FetchError, extract, require_space
from echo_lib.progress import Progress
from echo_lib.provenance import PACKAGE, write_json

ZENODO = "https://zenodo.org/api/records"
CHECKSUMS = "checksums.json"
DOWNLOADS = "downloads"
_CHUNK = 1 << 20
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Source:
    """A data set: where it is, or where to register for it.

    Attributes:
        title: what it is.
        licence: under which it is given.
        record: its number on Zenodo; None where it must be asked for.
        steps: what to do by hand, for a data set with a registration.
    """

    title: str
    licence: str
    record: int | None = None
    steps: str = ""


SOURCES = {
    "camus": Source(
        "CAMUS, 500 patients with masks",
        "CC BY-NC-SA 4.0, after registration",
        steps="Register at https://humanheart-project.creatis.insa-lyon.fr, download the data set, "
        "and unpack it so that database_nifti/ and database_split/ (current release) or training/ "
        "and testing/ (first release) lie in {target}.",
    ),
    "echonet": Source(
        "EchoNet-Dynamic, 10,030 apical four-chamber videos",
        "Stanford University research use agreement, after registration",
        steps="Register at https://echonet.github.io/dynamic, download the data set, and unpack it "
        "so that FileList.csv, VolumeTracings.csv and Videos/ lie in {target}.",
    ),
    "released": Source(
        "What the authors of the paper released: synthetic images, segmentation networks",
        "as stated on Zenodo, record 7921055",
        record=7921055,
    ),
    "hearts": Source(
        "Rodero et al.: virtual cohort of 1,000 synthetic four-chamber hearts",
        "as stated on Zenodo, record 4506930",
        record=4506930,
    ),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    Attributes:
        name: of the file, without a folder.
        url: where it is.
        checksum: "md5:..." or "sha256:...", or None where it is not known.
        size: bytes, or None.
    """

    name: str
    url: str
    checksum: str | None = None
    size: int | None = None


def fetch(name, target, *, zenodo=ZENODO, unpack=True):
    """Download a data set into a folder, or go on with it, or find it complete.

    Args:
        name: of SOURCES.
        target: folder; archives are kept in ``<target>/downloads`` and unpacked into ``target``.
        zenodo: where records are asked for.
        unpack: False leaves the archives packed.

    Returns:
        Paths of the files downloaded.

    Raises:
        FetchError: unknown name, registration needed, no connection, wrong checksum, no space, an
            archive that would write outside its folder.
    """
    if name not in SOURCES:
        raise FetchError(f"data set {name!r}, expected one of {', '.join(SOURCES)}")
    source, target = SOURCES[name], Path(target)
    if source.record is None:
        raise FetchError(f"{source.title}: {source.steps.format(target=target)}")
    paths = []
    for file in record_files(source.record, zenodo=zenodo):
        path = download(file, target / DOWNLOADS)
        if unpack and path.name.endswith((".zip", ".tar", ".tar.gz", ".tgz")):
            extract(path, target)
        paths.append(path)
    return paths


def record_files(number, *, zenodo=ZENODO):
    """The files of a Zenodo record, from its public JSON: keys key, size, checksum, links.self."""
    url = f"{zenodo}/{number}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:
            record = json.load(answer)
        return [
            RemoteFile(Path(f["key"]).name, f["links"]["self"], f.get("checksum"), f.get("size"))
            for f in record["files"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FetchError(
            f"{url}: no list of files ({error!r}); check the connection, or download the record by "
            f"hand from https://zenodo.org/records/{number}"
        ) from error


def download(file, folder):
    """One file, verified; a part that is there is gone on with.

    The part lies beside the file as ``<name>.part`` until its checksum is right. Without a known
    checksum, the one found at the first download is kept in ``checksums.json`` and holds from then.

    Returns:
        The path of the complete file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, part = folder / file.name, folder / f"{file.name}.part"
    recorded = _recorded(folder)
    expected = file.checksum or recorded.get(file.name)
    if path.is_file() and expected and _matches(path, expected):
        print(f"{path}: complete")
        return path
    require_space(folder, (file.size or 0) - (part.stat().st_size if part.exists() else 0))
    _complete(file, part)
    if expected and not _matches(part, expected):
        found = f"{_algorithm(expected)}:{pooch.file_hash(str(part), _algorithm(expected))}"
        part.unlink()
        raise FetchError(
            f"{file.url}: checksum {found}, expected {expected}; the file was removed, fetch it "
            "again, and if it fails again compare with the publisher's page"
        )
    if not expected:
        recorded[file.name] = f"sha256:{pooch.file_hash(str(part))}"
        write_json(folder / CHECKSUMS, recorded)
        print(f"{path}: no checksum is published; {recorded[file.name]} is kept in {CHECKSUMS}")
    part.replace(path)
    return path


def _complete(file, part):
    """Append to ``part`` what is missing of it; what arrived stays there whatever happens."""
    have = part.stat().st_size if part.exists() else 0
    if file.size and have == file.size:
        return
    request = urllib.request.Request(file.url)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            resumed = answer.status == 206
            length = int(answer.headers.get("Content-Length") or 0)
            require_space(part.parent, length)
            total = length + (have if resumed else 0)
            with open(part, "ab" if resumed else "wb") as out:
                _copy(answer, out, file.name, have if resumed else 0, total)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the server has nothing beyond what is here
            raise FetchError(
                f"{file.url}: {error}; {part} keeps what arrived, fetch again to go on"
            ) from error
        part.unlink()
        raise FetchError(
            f"{file.url}: {part.name} was as long as the file or longer, and is not the file; it "
            "was removed, fetch again to begin anew"
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise FetchError(
                f"{part}: the disk is full; free some space and fetch again"
            ) from error
        raise FetchError(
            f"{file.url}: {error}; {part} keeps what arrived, fetch again to go on"
        ) from error
    if total and part.stat().st_size < total:
        raise FetchError(
            f"{file.url}: the connection ended at {part.stat().st_size} of {total} bytes; {part} "
            "keeps what arrived, fetch again to go on"
        )


def _copy(answer, out, name, have, total):
    mebi = 1 << 20
    progress = Progress(name, max(1, total // mebi), done=have // mebi, unit="MiB")
    while chunk := answer.read(_CHUNK):
        out.write(chunk)
        have += len(chunk)
        progress.show(have // mebi)


def _recorded(folder):
    path = folder / CHECKSUMS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _algorithm(checksum):
    return checksum.partition(":")[0]


def _matches(path, checksum):
    algorithm, _, digest = checksum.partition(":")
    return pooch.file_hash(str(path), algorithm) == digest.lower()


def main(arguments=None):
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", choices=sorted(SOURCES), help="left out: list them")
    parser.add_argument("--target", type=Path, help="folder; data/<name> where left out")
    options = parser.parse_args(arguments)
    if not options.name:
        for name, source in SOURCES.items():
            how = f"Zenodo {source.record}" if source.record else "after registration"
            print(f"{name:<10} {source.title} ({how}; {source.licence})")
        return
    target = options.target or PACKAGE.parent / "data" / options.name
    try:
        for path in fetch(options.name, target):
            print(path)
    except FetchError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"{target}: {error}; choose another folder by --target")
    print(f"next: python -m echo_lib.data.doctor {target}")


if __name__ == "__main__":
    main()
