"""Sound that two roles share is left out before anything is measured.

Of a test clip and a clip of another role whose waveforms agree, the other one goes; if it trained
the fingerprinter, the test clip goes, for the weights have heard it. What is alike only to the
fingerprinter stays: to tell that apart is its task. So do test clips that share sound among
themselves.

Waveforms are compared only where 5 s of fingerprints have a mean inner product of ALIKE. One frame
must have it then, so that a range search over the test clips' frames finds all such pairs.
"""

from dataclasses import replace

import faiss
import numpy as np
import pandas as pd

from amg import progress
from amg.sound.audio import SAME, likeness

# mean inner product over 5 s: the same sound a quarter of a second off, the worst case, is mostly
# above it, other music below
ALIKE = 0.7
EXCERPT_FRAMES = 9
N_PLACES = 3  # of a pair that are listened to
BLOCK_FRAMES = 8192  # of the range search; bounds its memory
SHARED = "same sound as"  # begins the reason why a clip was left out


def apart(clips, fingerprints) -> tuple[dict, list]:
    """Leave out what test clips share with other roles.

    clips: role -> list of Clip, `test` among them; fingerprints: role -> iterable of those of its
    clips as recorded, float32 (T, dimension), for roles that have clips. Returns (the clips without
    what was left out, what was left out, its reason in `refused`).
    """
    songs, left_out = list(fingerprints["test"]), {}
    song_of = np.repeat(np.arange(len(songs)), [len(song) for song in songs])  # of a test frame
    index = faiss.IndexFlatIP(songs[0].shape[1])
    index.add(np.concatenate(songs))
    for role in [role for role in fingerprints if role != "test"]:
        bar = progress.bar(clips[role], desc=f"comparing {role}", unit="clip")
        for other, song in zip(bar, fingerprints[role]):
            for number in near(index, song_of, song):
                test = clips["test"][number]
                if other in left_out or test in left_out:
                    continue
                if agree(test, other, alike_places(songs[number], song)):
                    goes, stays = (test, other) if role == "fingerprinter" else (other, test)
                    left_out[goes] = replace(goes, refused=f"{SHARED} {stays.piece} ({stays.role})")
    kept = {role: [clip for clip in clips[role] if clip not in left_out] for role in clips}
    return kept, list(left_out.values())


def near(index, song_of, song) -> list[int]:
    """Numbers of the indexed songs with a frame whose inner product with one of `song` is at least
    ALIKE; song_of: number of the song that holds each indexed frame, int (N,)."""
    blocks = (song[first : first + BLOCK_FRAMES] for first in range(0, len(song), BLOCK_FRAMES))
    hits = [song_of[index.range_search(block, ALIKE)[2]] for block in blocks]
    return np.unique(np.concatenate(hits)).tolist()


def alike_places(song, other) -> list[tuple[int, int]]:
    """Best places where two songs share 5 s, (frame in one, frame in the other): at most N_PLACES,
    the most alike first, each with another time between the two."""
    n_rows, n_columns = len(song) - EXCERPT_FRAMES + 1, len(other) - EXCERPT_FRAMES + 1
    if min(n_rows, n_columns) < 1:
        return []
    similarity = song @ other.T
    diagonals = (similarity[k:][:n_rows, k : k + n_columns] for k in range(EXCERPT_FRAMES))
    mean = sum(diagonals) / EXCERPT_FRAMES
    at, there = np.nonzero(mean >= ALIKE)
    best = np.argsort(-mean[at, there], kind="stable")
    _, first = np.unique((there - at)[best], return_index=True)
    kept = best[np.sort(first)[:N_PLACES]]
    return [(int(at[i]), int(there[i])) for i in kept]


def agree(clip, other, places) -> bool:
    """Whether two clips have the same waveform at one of `places`, within half a second."""
    excerpts = (
        (clip.excerpt(at, EXCERPT_FRAMES), other.excerpt(max(there - 1, 0), EXCERPT_FRAMES + 2))
        for at, there in places
    )
    return any(likeness(sound, around) >= SAME for sound, around in excerpts)


def counts(table) -> dict[str, int]:
    """How many clips of each role were left out, from a report's `clips.csv`; none: no key."""
    shared = table[table.refused.astype(str).str.startswith(SHARED)]
    return shared.role.value_counts(sort=False).to_dict()


def overlaps(recordings) -> pd.DataFrame:
    """How many recordings each two roles share; recordings: role -> iterable of names."""
    sets = {role: set(names) for role, names in recordings.items()}
    shared = {role: [len(own & other) for other in sets.values()] for role, own in sets.items()}
    return pd.DataFrame(shared, index=list(sets))
