"""What is measured: a folder with one folder a person (as LFW is laid out), and what a CSV says of its files.

The CSV has a column `file` (a path relative to the folder) and any of:
  group         what error rates are compared by, as volunteers stated it; never inferred from pictures
  session       genuine comparisons are then made between different sessions only
  attack        the kind of presentation attack instrument; empty for a bona fide presentation
  presentation  files with the same value are the frames, in the order of their names, of one presentation
Files with an attack or a presentation are used for attack detection only, never for comparisons.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

from facefare.evaluation.errors import DatasetError

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
_COLUMNS = {"file", "group", "session", "attack", "presentation"}


@dataclass(frozen=True)
class Photo:
    """One picture: where it is, whose (the number of the person's folder), and what the CSV says of it."""

    file: Path
    person: int
    group: str = ""
    session: str = ""
    attack: str = ""
    presentation: str = ""


def read_dataset(folder: Path, labels: Path | None = None) -> list[Photo]:
    """Return the photos of a folder, in the order of their names.

    Raises DatasetError: no people, or a CSV that names no column `file`, an unknown column, or a missing file.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder. It has to hold one folder a person.")
    people = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    photos = [
        Photo(file, number)
        for number, person in enumerate(people)
        for file in sorted(person.iterdir())
        if file.suffix.lower() in _SUFFIXES
    ]
    if not photos:
        raise DatasetError(f"There are no pictures in the folders of {folder}. It has to hold one folder a person.")
    if labels is None:
        return photos
    known = {photo.file.relative_to(folder).as_posix(): place for place, photo in enumerate(photos)}
    for line, row in _rows(labels):
        place = known.get(row.pop("file"))
        if place is None:
            raise DatasetError(f"{labels.name}, line {line}: the file is not in the folder.")
        photos[place] = Photo(photos[place].file, photos[place].person, **row)
    return photos


def _rows(labels: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        with labels.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened, strict=True)
            columns = set(reader.fieldnames or ())
            if "file" not in columns or not columns <= _COLUMNS:
                raise DatasetError(f"{labels.name} has to have a column file, and besides only {sorted(_COLUMNS)}.")
            return [(reader.line_num, {name: (row[name] or "").strip() for name in columns}) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{labels.name} is no CSV file that can be read: {error}.") from error
