"""What is there of fingerprints from elsewhere, as the published archives: is it complete, and can
it be used? Reads all of it, writes nothing."""

import re
from collections import Counter

from amg import paths, progress
from amg.check import InputError
from amg.embedding import crops
from amg.fingerprint import features
from amg.retrieval import databases

MOST = 10  # sentences of a kind that are printed


def training_set(folder) -> list[str]:
    """Sentences on a training folder: songs, versions, shapes, and what is missing or broken."""
    try:
        arrays = features.find(folder)
    except InputError as reason:
        return [str(reason)]
    shapes, wrong, there = Counter(), [], set()
    for file in progress.bar(arrays, desc=f"checking {folder.name}", unit="file"):
        named = re.fullmatch(r"([1-9][0-9]*)-([0-9][0-9])", file.stem)
        try:
            shapes[features.load(file).shape] += 1
        except InputError as reason:
            wrong.append(str(reason))
        if named:
            there.add((int(named[1]), int(named[2])))
        else:
            wrong.append(f"{paths.relative(file)} is not named songId-clipId, as 12-00.")
    songs, clips = ({item[at] for item in there} or {0} for at in (0, 1))
    n_songs, n_clips = max(songs), max(clips) + 1
    grid = ((song, clip) for song in range(1, n_songs + 1) for clip in range(n_clips))
    missing = [f"{song}-{clip:02d}.npy" for song, clip in grid if (song, clip) not in there]
    shown = ", ".join(f"{n} of shape {shape}" for shape, n in shapes.most_common(5))
    state = "complete" if not (missing or wrong) else f"{len(missing)} missing, {len(wrong)} wrong"
    said = [
        f"{paths.relative(folder)}: {n_songs} songs x {n_clips} clips, {state}; arrays: {shown}."
    ]
    if missing:
        said.append(f"missing, training does without them: {', '.join(_some(missing))}")
    return said + _some(wrong)


def database(root) -> list[str]:
    """Sentences on a database tree: what `databases.load` says, and which segments are whole."""
    try:
        db, queries = databases.load(root)
    except InputError as reason:
        return _some(str(reason).splitlines())
    said = [
        f"{paths.relative(root)}: {db.first_test} distractors, {len(queries)} test songs and their "
        f"queries; {len(db.sequences.frames):,} frames."
    ]
    for duration in crops.DURATIONS:
        try:
            databases.load_segments(root, db, duration)
            said.append(f"segments of {duration} s: whole.")
        except InputError as reason:
            said.append(f"segments of {duration} s: {reason}")
    return said


def _some(items):
    more = len(items) - MOST
    return items[:MOST] + ([f"... and {more} more"] if more > 0 else [])
