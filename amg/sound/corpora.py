"""Where sound comes from, and which part of it plays which role.

    sheet_music  real compositions played by a sound font (`sheet_music.py`); needs nothing but pip
    open_music   recordings from Debian's free games (`open_music.py`); needs apt
    folder       any directory of audio files (`recordings.py`)
    fma          the Free Music Archive's data set (`fma.py`); needs fma_full or fma_large

The roles of a corpus share no recording, whatever the seed. Of open_music a role is some packages;
of sheet_music, and of a folder, it is some names, by their hash; of fma, some artists.
"""

from dataclasses import replace
from itertools import chain

import numpy as np

from amg import check, progress
from amg.check import InputError
from amg.sound import fma, open_music, recordings, sheet_music
from amg.sound.clips import CLIP_S, MARGIN_S, ROLES, Clip

NAMES = ("sheet_music", "open_music", "folder", "fma")
WHOLE = ("fingerprinter", "dummy")  # roles whose recordings are not cut
PER_TRACK = 10  # clips of one recording at most
N_NOISE = 16  # clips reserved as background music, if so many are to be had
N_RENDERED = 400  # renderings among the distractors of open_music
FURTHER = ("heard", "speeds")  # what training songs may come on top


def check_source(corpus, folder="") -> None:
    """InputError unless `corpus` is one of NAMES, and `folder` has its audio if it needs one."""
    check.one_of("corpus", corpus, NAMES)
    if corpus == "folder":
        recordings.root(folder)
    if corpus == "fma":
        fma.roles(folder)


def manifest(corpus, workers=2, folder="", roles=ROLES) -> list[Clip]:
    """Every recording of some roles of a corpus, as a whole, the refused ones with their reason.

    Of open_music, packages of other `roles` are not fetched, and distractors are played at other
    speeds, too, and joined by renderings.
    """
    if corpus == "fma":
        return fma.manifest(folder, workers, roles)
    if corpus == "folder":
        tracks = recordings.decode_folder(folder, workers)
        tracks = [replace(track, role=_role_in_folder(track.piece)) for track in tracks]
        return [track for track in tracks if track.role in roles]
    role_of = {name: role for role in roles for name in open_music.PACKAGES[role]}
    tracks = open_music.fetch(role_of, workers)
    tracks = [track for track in tracks if track.seconds >= CLIP_S or not track.file]
    tracks = [replace(track, role=role_of[track.source]) for track in tracks]
    if "dummy" not in roles:
        return tracks
    again = [track for track in tracks if track.role == "dummy" and not track.refused]
    rendered = sheet_music.build("dummy", N_RENDERED, 0, workers)
    return tracks + recordings.at_speeds(again, workers) + rendered


def _role_in_folder(name):
    """Nothing is reserved for noise, or heard by the shipped fingerprinter."""
    role = sheet_music.role_by_hash(name)
    return "train" if role.startswith("noise") else role


def choose(corpus, sizes, seed, workers=2, folder="", whole=WHOLE) -> tuple[dict, list[Clip]]:
    """Clips of some roles, and what cannot be used.

    sizes: role -> how many clips, None for all recordings that there are (renderings: none); whole:
    roles whose recordings are not cut. Others become clips of 30 s, at most PER_TRACK a recording,
    evenly spread. Returns (role -> clips in the seed's order, those asked for first, then spare
    ones; the refused with their reason). Raises InputError if there are too few, before any clip is
    listened to or rendered if that shows.
    """
    check.seed(seed)
    if corpus == "sheet_music":
        _check_sizes(corpus, sizes, {role: sheet_music.pieces(role, 0) for role in sizes})
        return {
            role: sheet_music.build(role, size, seed, workers, spare=2) if size else []
            for role, size in sizes.items()
        }, []
    refused, too_short, clips = [], [], {role: [] for role in sizes}
    for track in manifest(corpus, workers, folder, list(sizes)):
        if track.refused:
            refused.append(track)
        elif cut := [track] if track.role in whole else _cut(track):
            clips[track.role] += cut
        else:
            short = f"lasts {track.seconds:.1f} s, too short to be cut: a clip has {CLIP_S} s"
            reason = f"{short}, and {MARGIN_S:g} s before and after it"
            too_short.append(replace(track, refused=reason))
    refused += too_short
    _check_sizes(corpus, sizes, clips)
    for role, of_role in clips.items():
        clips[role], silent = _heard(of_role, role, seed, workers)
        refused += silent
        if corpus == "fma" and sizes[role]:  # second clips of tracks come last, and few are spare
            in_order = sorted(clips[role], key=lambda clip: clip.start_s)
            clips[role] = in_order[: sizes[role] + sizes[role] // 20 + 50]
    _check_sizes(corpus, sizes, clips)
    return clips, refused


def further(kinds, corpus, seed, workers=2, folder="") -> list[Clip]:
    """Training songs beside those of the role `train`: clips of 30 s as `choose` cuts them, of all
    recordings that there are.

    kinds: of FURTHER: `heard` is the music that trained the fingerprinter, whose clips keep that
    role, for fingerprints of them are in-sample; `speeds` is all of this and of `train`, played at
    other speeds. Renderings have neither; they have TAKES.
    """
    if kinds == []:
        return []
    check.each("further", kinds, check.one_of, FURTHER)
    check.one_of("the corpus of further songs", corpus, NAMES[1:])
    heard = ["fingerprinter"] if "heard" in kinds else []
    tracks = manifest(corpus, workers, folder, ["train", *heard])
    tracks = [track for track in tracks if not track.refused]
    parts = [[track for track in tracks if track.role in heard]]
    if "speeds" in kinds:
        parts.append(recordings.at_speeds(tracks, workers))
    cut = [[*chain.from_iterable(map(_cut, part))] for part in parts]
    return [clip for part in cut for clip in _heard(part, "further songs", seed, workers)[0]]


def _heard(clips, role, seed, workers):
    """The clips in the seed's order, each listened to, and those that are refused."""
    jobs, label = [(clip,) for clip in clips], f"listening to {role}"
    measured = [*progress.parallel(Clip.measured, jobs, workers, desc=label, unit="clip")]
    usable = [clip for clip in measured if not clip.refused]
    order = np.random.default_rng(seed).permutation(len(usable))
    return [usable[i] for i in order], [clip for clip in measured if clip.refused]


def _cut(track):
    """Up to PER_TRACK clips of 30 s of a recording, each with MARGIN_S of it before and after."""
    n_clips = min(PER_TRACK, int((track.seconds - 2 * MARGIN_S) // CLIP_S))
    starts = np.linspace(MARGIN_S, track.seconds - MARGIN_S - CLIP_S, n_clips)
    return [
        replace(track, piece=f"{track.piece}@{start:.1f}", start_s=start, seconds=float(CLIP_S))
        for start in (np.floor(10 * starts + 1e-6) / 10).tolist()
    ]


def _check_sizes(corpus, sizes, clips):
    short = [role for role, size in sizes.items() if (size or 0) > len(clips[role])]
    if short:
        called = {"dummy": "distractors", "valid": "validation", "train": "training"}
        there = ", ".join(
            f"{called.get(role, role)} {len(clips[role])} of {sizes[role]}" for role in short
        )
        raise InputError(
            f"corpus {corpus!r} has too few usable clips: {there}; lower "
            f"{', '.join(f'n_{role}' for role in short)}, or add music."
        )


def noises(corpus, side, seed, workers=2) -> dict[str, list[np.ndarray]]:
    """Sounds for the noise of a side (train, valid or test): kind -> list of float32 (n_samples,).

    Of open_music: whole tracks of music, and its packages' prompts and sound effects. Other corpora
    borrow music from the sheet music.
    """
    check.seed(seed)
    if corpus != "open_music":
        n_clips = N_NOISE // 2
        clips = sheet_music.build(f"noise_{side}", n_clips, seed, workers, spare=n_clips)
        return {"music": [clip.read() for clip in clips]}
    sounds = {}
    for kind, packages in open_music.NOISES[side].items():
        shortest_s, longest_s = (CLIP_S, np.inf) if kind == "music" else open_music.NOISE_S
        sounds[kind] = [
            clip.read()
            for clip in open_music.fetch(packages, workers)
            if not clip.refused and shortest_s <= clip.seconds <= longest_s
        ]
        if not sounds[kind]:
            raise InputError(
                f"the packages {', '.join(packages)} hold no sound for {side} noise of the kind "
                f"{kind!r}; see why they were skipped."
            )
    return sounds
