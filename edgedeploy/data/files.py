"""Image files in a folder or in a .zip, which is read in place and never extracted."""

import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, NoReturn

from PIL import Image

from edgedeploy.data.image import SUFFIXES, decode
from edgedeploy.errors import DataError


@dataclass(frozen=True)
class ImageFiles:
    """Images under `root`: posix paths relative to it, sorted; `folders` holds empty ones too."""

    root: Path
    names: tuple[str, ...]
    folders: frozenset[str]

    @property
    def zipped(self) -> bool:
        return self.root.is_file()

    def read(self, names: Sequence[str]) -> Iterator[Image.Image]:
        """The decoded images; `DataError` names the file that cannot be read."""
        if not self.zipped:
            for name in names:
                with _open(self.root / name) as file:
                    yield decode(file, str(self.root / name))
            return
        with zipfile.ZipFile(self.root) as archive:
            for name in names:
                where = f"{self.root}/{name}"
                try:
                    with archive.open(name) as file:
                        yield decode(file, where)
                except (RuntimeError, zipfile.BadZipFile) as err:
                    msg = f"image {where} cannot be unpacked: {err}"
                    raise DataError(msg, hint="Pack it without a password, deflated.") from err

    def paths(self, names: Sequence[str]) -> list[Path]:
        """The files that hold these images."""
        return [self.root] if self.zipped else [self.root / name for name in names]


def list_images(root: Path) -> ImageFiles:
    """All images under a folder or in a .zip, hidden ones left out.

    Raises `DataError` where `root` is neither, a .zip names a path outside itself, or nothing
    there is an image.
    """
    names, folders = _list_folder(root) if root.is_dir() else _list_zip(root)
    images = [name for name in names if _is_image(name)]
    if not images:
        msg = f"{root} holds no image: {len(names)} files, none ending in {', '.join(SUFFIXES)}"
        raise DataError(msg, hint="Name the folder or .zip that holds the images.")
    return ImageFiles(root, tuple(sorted(images)), frozenset(folders))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden


def _list_folder(root: Path) -> tuple[list[str], list[str]]:
    """Files and folders below; class folders are often links, so those are followed, once each."""
    names: list[str] = []
    folders: list[str] = []
    seen: set[Path] = set()
    for place, children, files in os.walk(root, onerror=_refuse, followlinks=True):
        folder = Path(place)
        if folder.resolve() in seen:
            children.clear()
            continue
        seen.add(folder.resolve())
        names += [(folder / file).relative_to(root).as_posix() for file in files]
        folders += [(folder / child).relative_to(root).as_posix() for child in children]
    return names, folders


def _refuse(err: OSError) -> NoReturn:
    msg = f"folder {err.filename} cannot be listed: {err.strerror}"
    raise DataError(msg, hint="Check that it may be read.") from err


def _list_zip(root: Path) -> tuple[list[str], list[str]]:
    if not zipfile.is_zipfile(root):
        msg = f"{root} is neither a folder nor a .zip"
        raise DataError(msg, hint="Name a folder of images, or a .zip of one.")
    try:
        with zipfile.ZipFile(root) as archive:
            entries = archive.namelist()
    except zipfile.BadZipFile as err:
        msg = f"{root} is a damaged .zip: {err}"
        raise DataError(msg, hint="Copy it again.") from err
    for entry in entries:
        path = PurePosixPath(entry.replace("\\", "/"))
        if path.is_absolute() or PureWindowsPath(entry).drive or ".." in path.parts:
            msg = f"{root} is refused: its member {entry!r} points outside the archive"
            raise DataError(msg, hint="Pack the folder again with relative paths.")
    names = [entry for entry in entries if not entry.endswith("/")]
    folders = {str(parent) for entry in names for parent in PurePosixPath(entry).parents}
    folders |= {entry.rstrip("/") for entry in entries if entry.endswith("/")}
    return names, sorted(folders - {"."})


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as err:
        msg = f"image {path} cannot be opened: {err.strerror}"
        raise DataError(msg, hint="Check that it exists and may be read.") from err
