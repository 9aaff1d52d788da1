"""The Free Music Archive's data set (arXiv 1612.01840) as it is unpacked: `000/000002.mp3`, ...

`fma_full` has whole tracks, `fma_large` 30 s from the middle of each. A distractor is what a file
holds. Of other tracks the middle is cut, one clip, as FMA's own clips are; of training tracks that
are long enough a second one, for when there are fewer of them than training songs are asked for.

A track's role follows from its artist, by the table of metadata alone, whatever files there are:
artists are put in an order by a hash, and SHARES of all tracks go to one role after the other.
"""

import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from amg import code, files, paths
from amg.check import InputError
from amg.sound import recordings
from amg.sound.audio import SAMPLE_RATE
from amg.sound.clips import CLIP_S, MARGIN_S, Clip

METADATA = "fma_metadata/tracks.csv"
SHARES = {"test": 0.01, "valid": 0.01, "dummy": 0.11, "train": 0.87}  # of the tracks of the table
N_CLIPS = {"test": 1, "valid": 1, "train": 2}  # of a track at most; distractors are not cut


def roles(folder) -> pd.Series:
    """Track id -> role, of all tracks of the table, which lies in `folder` or beside it.

    Raises InputError if there is no table, or if `folder` has no tracks.
    """
    tree = recordings.root(folder)
    places = [tree / METADATA, tree.parent / METADATA]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        looked = " and ".join(str(paths.relative(place)) for place in places)
        raise InputError(
            f"{folder} has no table of tracks (looked for: {looked}); unpack fma_metadata.zip "
            "there."
        )
    if not any(tree.glob("[0-9][0-9][0-9]/[0-9]*.mp3")):
        raise InputError(
            f"{folder} holds no tracks, as 000/000002.mp3; give the folder that fma_full.zip or "
            "fma_large.zip was unpacked to."
        )
    try:
        table = pd.read_csv(file, header=[0, 1], index_col=0, low_memory=False)
        artist = table["artist", "id"].astype(int).set_axis(table.index.astype(int))
        if not artist.index.is_unique:
            raise ValueError("it names a track twice")
    except Exception as error:  # whatever a foreign file makes of pandas
        said = (str(error).splitlines() or [type(error).__name__])[0]
        reason = "no such column" if isinstance(error, KeyError) else said
        raise InputError(
            f"{paths.relative(file)} is no table of FMA's tracks, with three rows of headings and "
            f"the artist's id ({reason}); unpack fma_metadata.zip again."
        ) from None
    n_tracks = artist.value_counts()
    order = sorted(n_tracks.index, key=lambda one: (zlib.crc32(str(one).encode()), one))
    before = n_tracks[order].cumsum() - n_tracks[order]
    place = np.searchsorted(np.cumsum([*SHARES.values()]), before / len(artist), side="right")
    return artist.map(dict(zip(order, np.array([*SHARES])[np.minimum(place, len(SHARES) - 1)])))


def manifest(folder, workers, wanted) -> list[Clip]:
    """Tracks of the `wanted` roles, what cannot be used with its reason: Clips as those of
    `recordings.decode_all`, in `data/audio/fma/`. Says of how many tracks there is no file."""
    role_of, tree = roles(folder), recordings.root(folder)
    role_of.index = [f"{track // 1000:03d}/{track:06d}.mp3" for track in role_of.index]
    named = files.digest([str(tree), role_of.to_dict()])[:8]  # what is cut follows from the role
    target = paths.resolve(f"data/audio/fma/{tree.name}-{named}-{code.digest(__name__)}")
    there = {path.relative_to(tree).as_posix(): path for path in recordings.find(tree, (".mp3",))}
    unknown = [
        Clip(name, name, path.parent.name, refused=f"is not in {METADATA}")
        for name, path in there.items()
        if name not in role_of
    ]
    role_of = role_of[role_of.isin(wanted)]
    if missing := sorted(set(role_of.index) - there.keys()):
        some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        print(f"{len(missing)} tracks of {METADATA} have no file in {folder}: {some}")
    cut = {role: partial(middle, n_clips=n) for role, n in N_CLIPS.items()}
    jobs = [
        (path, tree, target, CLIP_S, cut.get(role_of[name], recordings.completed))
        for name, path in there.items()
        if name in role_of
    ]
    decoded = recordings.decode_all(jobs, workers)
    return unknown + [replace(clip, role=role_of[clip.piece]) for clip in decoded]


def middle(blocks, n_clips) -> list[np.ndarray]:
    """Blocks of what up to `n_clips` clips and their margins need, from the middle of a track."""
    sound = np.concatenate([np.empty(0, np.float32), *blocks])
    n_clips = min(n_clips, int(len(sound) / SAMPLE_RATE - 2 * MARGIN_S) // CLIP_S) or 1
    n_samples = round((n_clips * CLIP_S + 2 * MARGIN_S) * SAMPLE_RATE)
    return [*recordings.completed([sound[max(len(sound) - n_samples, 0) // 2 :][:n_samples]])]
