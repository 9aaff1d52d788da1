"""Data preparation: clips -> original and degraded versions -> stored fingerprints.

Each song is one job, done in a process of its own; files already there are kept, so that an
interrupted preparation continues. A folder remembers the recipe that made it (`features.claim`),
so that fingerprints of two recipes are never mixed.
"""

import hashlib
import json
from functools import lru_cache, partial
from pathlib import Path

import joblib
import numpy as np

from amg import (audio, check, checkpoint, corpora, degrade, features, nafp, paths, progress,
                 recordings, search)
from amg.check import InputError

TRAIN, TEST = 1, 2  # first word of every degradation's seed: the two never coincide
# mean inner product over 5 s from which on two clips count as near-duplicates: the same sound a
# quarter of a second off, the worst case, is mostly above it, other music below
ALIKE = 0.7
EXCERPT_FRAMES = 9
GROUP = 16  # files whose windows share batches


def recipe(rows, weights, seed, **more):
    """What decides a folder of fingerprints: clips, fingerprinter, seed, code; a dict."""
    clips = [f"{row['piece']} {row['start_s']:.1f} {row['seconds']:.2f}"
             f"{row['sha256'] if isinstance(row.get('sha256'), str) else ''}" for row in rows]
    return {"clips": hashlib.sha256("\n".join(clips).encode()).hexdigest()[:12],
            "songs": len(rows), "fingerprinter": checkpoint.sha256(weights)[:12], "seed": seed,
            "code": paths.code("audio", "pools", "degrade", "scores", "recordings", "open_music",
                               "corpora", "nafp"), **more}


def training_set(rows, folder, n_versions, pool, weights, seed, workers=2):
    """Write `{song}-{version:02d}.npy` for every clip; version 00 is the original.

    rows: clips, as `corpora.build` gives them; pool: a pools.Pool; weights: path of the
    fingerprinter. Version v of song s follows from (seed, s, v).
    """
    features.claim(folder, recipe(rows, weights, seed, versions=n_versions, pool=pool.digest))
    jobs = [(row, {features.song_file(folder, song, version):
                   partial(degrade.degrade, seed=[seed, TRAIN, song, version], pool=pool)
                   if version else None for version in range(n_versions)})
            for song, row in enumerate(rows, 1)]
    _run(jobs, weights, workers, folder.name)


def songs(rows, folder, weights, seed, workers=2, pool=None, kinds=degrade.FIELD, n_grids=1, **fixed):
    """Write `{i:05d}.npy` per clip, i from 0: as it is, or degraded if there is a `pool`.

    kinds, fixed: as for `degrade.degrade`. Clip i is degraded from (seed, i) alone, so that folders
    of other kinds share what they have in common. n_grids: frames per hop, as for
    `base.find_on_grids`; a divisor of the hop in samples.
    """
    features.claim(folder, recipe(rows, weights, seed, n_grids=n_grids, **_how(pool, kinds, fixed)))
    jobs = [(row, {folder / f"{i:05d}.npy": partial(
                degrade.degrade, seed=[seed, TEST, i], pool=pool, kinds=kinds, **fixed)
                if pool else None}) for i, row in enumerate(rows)]
    _run(jobs, weights, workers, folder.name, audio.HOP // n_grids)


def _how(pool, kinds, fixed):
    return {"pool": pool.digest, "kinds": list(kinds), **fixed} if pool else {}


def check_queries(rows, folder, weights, seed, pool):
    """InputError unless `songs` made `folder` with these very arguments."""
    note = features.recipe_of(folder)
    recipe_ = recipe(rows, weights, seed, n_grids=1, **_how(pool, degrade.FIELD, {}))
    if not note.exists() or json.loads(note.read_text()) != recipe_:
        raise InputError(f"{paths.relative(folder)} was made with other parameters than these; give "
                         "the corpus, seed, n_rooms, fingerprinter and report of notebook "
                         "01_data_prep, or run it again.")


def drawn(seed, i, pool, kinds=degrade.FIELD):
    """The degradation of test clip i in its query."""
    return degrade.draw(np.random.default_rng([seed, TEST, i]), pool, kinds)


def late_frames(n_clips, seed, pool):
    """How much later than its clip each query at any offset starts, in frames, float (n_clips,)."""
    late_s = [drawn(seed, i, pool, ("offset",)).offset_s for i in range(n_clips)]
    return np.array(late_s) * audio.SAMPLE_RATE / audio.HOP


def hear(position, n_frames, clips, sequences):
    """Undegraded samples of `n_frames` frames from `position` on; clips: in the order of songs."""
    clip, start = place(position, clips, sequences)
    return corpora.read({**clip, "start_s": clip["start_s"] + start / 2,
                         "seconds": audio.seconds(n_frames)})


def place(position, clips, sequences):
    """The clip that holds a position of `sequences`, and the frame of the clip that it is."""
    song = int(sequences.song_of(position))
    return clips[song], int(position - sequences.bounds[song])


def listen(miss, clips, sequences, seed, pool):
    """The sound of a miss: what was asked, what should have come back, what did.

    miss: a row of `robustness.explain`. Returns (three float32 arrays, three titles).
    """
    clip, start = place(miss.truth, clips, sequences)
    query = degrade.apply(corpora.read(clip), drawn(seed, miss.song, pool), pool)
    query = query[start * audio.HOP :][: (miss.query_frames + 1) * audio.HOP]
    sounds = [query, *(hear(at, miss.query_frames, clips, sequences)
                       for at in (miss.truth, miss.guess))]
    titles = []
    for name, at in (("asked", miss.truth), ("should come back", miss.truth),
                     ("came back", miss.guess)):
        clip, start = place(at, clips, sequences)
        track = Path(clip["piece"]).name.split("@")[0]
        titles.append(f"{name}: {corpora.origin(clip)}\n{track}, {clip['start_s'] + start / 2:.1f} s")
    return sounds, titles


def _run(jobs, weights, workers, label, hop=audio.HOP):
    waiting = [job for job in jobs if not all(target.exists() for target in job[1])]
    results = joblib.Parallel(workers, return_as="generator_unordered")(
        joblib.delayed(_one)(clip, versions, weights, hop) for clip, versions in waiting)
    for _ in progress.bar(results, desc=f"fingerprinting {label}", unit="song",
                          total=len(jobs), initial=len(jobs) - len(waiting)):
        pass


@lru_cache(1)
def _load(weights, stamp):
    return nafp.load(weights)


def _encoder(weights):
    """The fingerprinter, loaded once per process and version of its file."""
    return _load(weights, weights.stat().st_mtime_ns)


def _one(clip, versions, weights, hop):
    """Fingerprint the versions of one clip that are not there yet; None is the clip as it is."""
    missing = {target: change for target, change in versions.items() if not target.exists()}
    heard = ([change(corpora.read(clip))] if change else corpora.blocks(clip)
             for change in missing.values())
    for target, fingerprints in zip(missing, nafp.extract_all(_encoder(weights), heard, hop)):
        features.save(target, fingerprints)


def folder(source, target, weights, workers=2):
    """Fingerprint every audio file below `source`: `deep/b.flac` becomes `target/deep__b.flac.npy`.

    Fingerprints that are there and no older than their file are kept. Returns (number written or
    kept, list of sentences about files that gave none). Raises InputError if there is no audio.
    """
    check.integers(1, workers=workers)
    source = recordings.root(source)
    files = recordings.find(source)
    features.claim(target, {"fingerprinter": checkpoint.sha256(weights)[:12],
                            "code": paths.code("audio", "nafp")})
    pairs = [(file, target / f"{'__'.join(file.relative_to(source).parts)}.npy") for file in files]
    groups = [pairs[i : i + GROUP] for i in range(0, len(pairs), GROUP)]
    results = joblib.Parallel(workers, return_as="generator")(
        joblib.delayed(_group)(group, weights) for group in groups)
    refused = [sentence for part in progress.bar(results, desc="fingerprinting", total=len(groups),
                                                 unit=f"{GROUP} files") for sentence in part]
    return len(pairs) - len(refused), refused


def _group(pairs, weights):
    """Fingerprint some files together; returns sentences about those that could not be."""
    missing = [(file, target) for file, target in pairs
               if not target.exists() or target.stat().st_mtime < file.stat().st_mtime]
    found = nafp.extract_all(_encoder(weights), (audio.blocks(file) for file, _ in missing))
    try:
        for _, target in missing:
            features.save(target, next(found))
    except InputError as reason:
        if len(missing) == 1:
            name = str(missing[0][0])
            missing[0][1].unlink(missing_ok=True)  # what an earlier version of the file gave
            return [str(reason) if str(reason).startswith(name) else f"{name}: {reason}"]
        return [sentence for pair in missing for sentence in _group([pair], weights)]
    return []


def distinct(clips, sizes, weights, workers=2, threshold=ALIKE):
    """Leave out clips that sound like another one, then cut each role to its size.

    clips: role -> manifest rows, in order of precedence: of two that are alike, the later is
    left out; those of the last role are not compared among themselves. Returns (clips, a dict
    from each piece left out to the one it sounds like, the most alike pairs as (piece, other,
    similarity)). Raises InputError if fewer than `sizes[role]` clips remain.
    """
    flat = [(role, row) for role, rows in clips.items() for row in rows]
    jobs = (joblib.delayed(_original)(row, weights) for _, row in flat)
    originals = list(progress.bar(joblib.Parallel(workers, return_as="generator")(jobs),
                                  desc="comparing clips", unit="clip", total=len(flat)))
    n_compared = len(flat) - len(list(clips.values())[-1])
    pairs = near_duplicates(originals, threshold - 0.1, n_compared)  # in the order of clips
    dropped = {}
    for clip, other, similarity in pairs:
        if similarity >= threshold and clip not in dropped:
            dropped.setdefault(other, clip)
    pairs.sort(key=lambda pair: -pair[2])
    kept = {role: [row for i, (of, row) in enumerate(flat) if of == role and i not in dropped]
            for role in clips}
    for role, size in sizes.items():
        if len(kept[role]) < size:
            raise InputError(f"n_{role} is {size}, but only {len(kept[role])} clips of that role "
                             "do not sound like another one; ask for fewer.")
    return ({role: rows[: sizes[role]] for role, rows in kept.items()},
            {flat[other][1]["piece"]: flat[clip][1]["piece"] for other, clip in dropped.items()},
            [(flat[i][1]["piece"], flat[j][1]["piece"], score) for i, j, score in pairs])


def _original(clip, weights):
    return next(nafp.extract_all(_encoder(weights), [corpora.blocks(clip)]))


def near_duplicates(songs, threshold=ALIKE, n_compared=None):
    """Pairs of songs that share 5 s of sound: list of (song, other, mean inner product).

    songs: list of float32 (T, 128). Consecutive excerpts of each of the first `n_compared` songs
    (default: all) are compared with every whole place in every later song; a pair is reported if
    its best place reaches `threshold`.
    """
    sequences = search.Sequences.of(songs)
    starts = np.arange(len(sequences.frames) - EXCERPT_FRAMES + 1)
    song_of = sequences.song_of(starts)
    whole = song_of == sequences.song_of(starts + EXCERPT_FRAMES - 1)
    found = []
    for i, song in enumerate(progress.bar(songs[:n_compared], desc="near-duplicates", unit="song")):
        later = int(sequences.bounds[i + 1])
        similarity = song @ sequences.frames[later:].T  # (T, frames of all later songs)
        best = np.full(max(similarity.shape[1] - EXCERPT_FRAMES + 1, 0), -1.0, np.float32)
        for begin in range(0, len(song) - EXCERPT_FRAMES + 1, EXCERPT_FRAMES):
            diagonal = sum(similarity[begin + k, k : k + len(best)] for k in range(EXCERPT_FRAMES))
            np.maximum(best, diagonal / EXCERPT_FRAMES, out=best)
        at = np.flatnonzero(whole[later:] & (best >= threshold))
        for other in np.unique(song_of[later:][at]):
            score = best[at[song_of[later:][at] == other]].max()
            found.append((i, int(other), float(score)))
    return found
