"""Where sound comes from, and which part of it plays which role.

    scores       real compositions played by a sound font (`scores.py`); needs nothing but pip
    open_music   recordings from Debian's free games (`open_music.py`); needs apt
    folder       any directory of audio files (`recordings.py`)

A *clip* is a manifest row with at least `piece` (its name), `file`, `start_s` and `seconds`.
Roles share no piece, whatever the seed: train, valid, test, dummy (distractors), and the
reserved music and sounds that degradations use as noise.
"""

import numpy as np
import pandas as pd
import soundfile

from amg import paths
from amg.sound import open_music, recordings, sheet_music
from amg.sound.audio import SAMPLE_RATE
from amg.check import InputError, one_of

NAMES = ("scores", "open_music", "folder")
CLIP_S = sheet_music.CLIP_S
PER_TRACK = 10  # clips of one recording at most
N_NOISE = 16  # clips reserved as background music, if so many are to be had


def check_source(corpus, folder=""):
    """InputError unless `corpus` is one of NAMES, and `folder` has audio if it is asked for."""
    one_of("corpus", corpus, NAMES)
    if corpus == "folder":
        recordings.root(folder)


def manifest(corpus, workers=2, folder="", roles=tuple(open_music.PACKAGES)):
    """Every recording of a corpus, the refused ones with their reason; a DataFrame.

    Of open_music, packages of other `roles` are not fetched.
    Columns: role, those of `recordings.COLUMNS`, and for open_music package, version, licence.
    Sounds of open_music that are too short for music are left to `noises`. The corpus `scores`
    has none: its pieces are rendered when they are asked for.
    """
    if corpus == "scores":
        return pd.DataFrame(columns=["role", *recordings.COLUMNS])
    if corpus == "open_music":
        role_of = {name: role for role in roles for name in open_music.PACKAGES[role]}
        table = open_music.fetch(role_of, workers)
        table.insert(0, "role", table.package.map(role_of))
        return table[(table.seconds >= CLIP_S) | (table.seconds == 0)].reset_index(drop=True)
    table = recordings.decode_folder(folder, CLIP_S, workers)
    roles = [sheet_music.role_of(track) for track in table.track]  # a folder reserves nothing for noise
    table.insert(0, "role", ["train" if role.startswith("noise") else role for role in roles])
    return table


def clips_of(tracks, role, whole=False):
    """All clips of the recordings of a role, in the order of `tracks`; a list.

    tracks: as from `manifest`. Recordings become clips of 30 s, at most PER_TRACK each, evenly
    spread, unless they are to stay `whole`. A clip that is silent for more than 2 s has the reason
    in `refused`: nothing can be recognised there.
    """
    usable = tracks[(tracks.role == role) & (tracks.refused == "")]
    return [clip for track in usable.to_dict("records") for clip in _cut(track, whole)]


def build(corpus, role, n_clips, seed, workers=2, spare=0, whole=False, tracks=None):
    """The first `n_clips` clips of a role in the seed's order, and up to `spare` more; a list.

    tracks: the corpus's `manifest`, not needed for `scores`; whole: as in `clips_of`; `n_clips`
    None takes them all. Raises InputError if there are too few.
    """
    if n_clips == 0:
        return []
    if corpus == "scores":
        return [{**row, "start_s": 0.0, "seconds": float(CLIP_S)}
                for row in sheet_music.build(role, n_clips, seed, workers, spare)]
    clips = [clip for clip in clips_of(tracks, role, whole) if not clip["refused"]]
    n_clips = max(1, len(clips)) if n_clips is None else n_clips
    if len(clips) < n_clips:
        raise InputError(f"{n_clips} clips are asked for the role {role}, but corpus {corpus!r} "
                         f"has only {len(clips)} for it; ask for fewer, or add music.")
    order = np.random.default_rng(seed).permutation(len(clips))[: n_clips + spare]
    return [clips[i] for i in order]


def noises(corpus, side, seed, workers=2):
    """Sounds for the noise of one side (train, valid or test): name -> list of float32 clips.

    Those of open_music come from its packages; other corpora borrow music from the scores.
    """
    if corpus == "open_music":
        return open_music.noises(side, workers)
    rows = build("scores", f"noise_{side}", N_NOISE // 2, seed, workers, spare=N_NOISE // 2)
    return {"music": [read(row) for row in rows]}


def origin(clip):
    """The package of a clip, or the first folder of its piece ("." if it lies in none)."""
    return clip["package"] if "package" in clip else (
        clip["piece"].rpartition("/")[0].split("/")[0] or ".")


def noise_sources(corpus, side):
    """What `noises` are made of: kind -> list of "package version"."""
    return open_music.versions(side) if corpus == "open_music" else {"music": ["scores"]}


def sources(clips):
    """What clips are made of: "package version" (or scores, or other) -> hours, a dict."""
    hours = {}
    for clip in clips:
        name = f"{clip['package']} {clip['version']}" if "package" in clip else "other"
        name = "scores" if "programs" in clip else name
        hours[name] = hours.get(name, 0) + clip["seconds"] / 3600
    return {name: round(hours[name], 2) for name in sorted(hours)}


def read(clip):
    """Samples of a clip: float32 (8000 * seconds,)."""
    return np.concatenate(list(blocks(clip)))


def blocks(clip, block_s=30):
    """The same in consecutive pieces of `block_s` seconds."""
    with soundfile.SoundFile(paths.resolve(clip["file"])) as file:
        file.seek(round(clip["start_s"] * SAMPLE_RATE))
        yield from file.blocks(block_s * SAMPLE_RATE, dtype="float32",
                               frames=round(clip["seconds"] * SAMPLE_RATE))


def _cut(track, whole):
    """Clips of a recording: itself, or up to PER_TRACK of 30 s."""
    keys = ("package", "version", "licence", "file", "level_db", "peak", "sha256", "refused")
    common = {key: track[key] for key in keys if key in track}
    name = f"{track['package']}/{track['track']}" if "package" in track else track["track"]
    if whole:
        return [{"piece": name, **common, "start_s": 0.0, "seconds": float(track["seconds"])}]
    n_clips = min(PER_TRACK, int(track["seconds"] // CLIP_S))
    last = track["seconds"] - CLIP_S
    starts = np.floor(10 * np.linspace(0, last, n_clips)) / 10 if n_clips > 1 else [0.0]
    return [_measured({"piece": f"{name}@{start:.1f}", **common, "start_s": float(start),
                       "seconds": float(CLIP_S)}) for start in starts]


def _measured(clip):
    """A clip with a level, peak and verdict of its own, not its recording's."""
    sound = read(clip)
    silence_s = sheet_music.longest_silence(sound)
    level_db = 10 * np.log10(np.mean(np.square(sound)) + 1e-12)
    refused = ("silent" if level_db < recordings.SILENT_DB else
               f"is silent for {silence_s:.1f} s" if silence_s > sheet_music.MAX_SILENCE_S else "")
    return clip | {"level_db": round(float(level_db), 1), "peak": round(float(np.abs(sound).max()), 3),
                   "refused": refused}
