"""How many segments the second stage should look at: chosen on validation songs, measured on the
test."""

import pandas as pd

from amg import progress
from amg.embedding import crops
from amg.retrieval import cost, evaluate, intervals, nafp_search, search
from amg.sound.audio import seconds
from amg.studies import unknown_songs

SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 300, 400)
CHOICE = [size for size in SIZES if size >= 50]
COLUMNS = [
    "encoder",
    "duration_max",
    "shortlist",
    "query_frames",
    "query_s",
    "n_queries",
    "top1",
    "base_top1",
    "difference",
    "low",
    "high",
    "n_recordings",
]


def validated(
    encoder,
    labels,
    data,
    recordings,
    n_valid,
    n_versions,
    database,
    query_frames,
    sizes=CHOICE,
    seed=0,
) -> pd.DataFrame:
    """Rows of `shortlist_choice.csv`: exact Top-1 of the two-stage search minus the base system's,
    in points, by shortlist and query length.

    Degraded versions of validation songs are asked for, among the database's distractors; arguments
    as for `unknown_songs.validation` and `unknown_songs.draw`, labels as `evaluate.labels`.
    """
    length = crops.segment_frames(labels["duration_max"])
    stored, degraded, song = unknown_songs.validation(
        data, recordings, n_valid, n_versions, database
    )
    asked = unknown_songs.draw(stored, degraded, song, query_frames, length, seed)
    sequences, segments = stored.sequences, search.Segments.of(stored.sequences, length)
    first = sequences.bounds[stored.first_test + song[asked.song.to_numpy()]]
    begin = first + asked.start.to_numpy()
    by_base = nafp_search.find(asked, degraded, sequences)[:, 0] == begin
    vectors, rows = evaluate.segment_vectors(encoder, segments, sequences), []
    for n in progress.bar(sizes, desc="shortlists, validation", unit="list"):
        listed, _ = evaluate.first_stage(asked, degraded, encoder, vectors, segments, n_best=n)
        found, _ = evaluate.second_stage(asked, degraded, listed, segments, sequences)
        hit = found[:, 0] == begin
        for frames, at in asked.groupby("query_frames").indices.items():
            gained = intervals.paired_difference(hit[at], by_base[at], asked.recording.iloc[at])
            rows.append(
                (
                    labels["encoder"],
                    labels["duration_max"],
                    n,
                    frames,
                    seconds(frames),
                    len(at),
                    100 * hit[at].mean(),
                    100 * by_base[at].mean(),
                    *gained,
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS).round(2)


def measured(models, segments, database, queries, trials, sizes=SIZES) -> pd.DataFrame:
    """Exact Top-1 against time of the contiguous two-stage search, by how many segments the second
    stage looks at; the base system, which has no such list, comes first.

    models: list of (encoder, vectors of the segments, labels as `evaluate.labels`). A row per query
    length, method and size: those of `cost.measure`, and encoder, shortlist, query_frames,
    n_queries, top1 and its interval.
    """
    index, sequences = search.flat_index(database.sequences.frames), database.sequences
    found = []
    for length, asked in trials.groupby("query_frames"):
        methods = [cost.base_method("nafp", index, sequences)]
        scored = [
            (
                evaluate.score(asked, nafp_search.find(asked, queries, sequences, index), database),
                {"encoder": "nafp"},
            )
        ]
        bar = progress.bar(
            [(*of, n) for of in models for n in sizes],
            unit="list",
            desc=f"shortlists, {length} frames",
        )
        for encoder, vectors, labels, n in bar:
            methods.append(
                cost.amg_methods(encoder, vectors, segments, sequences, labels, shortlist=n)[1]
            )
            two = evaluate.amg(asked, queries, encoder, vectors, segments, database, shortlist=n)[1]
            scored.append((two, {"encoder": labels["encoder"], "shortlist": n}))
        table = cost.measure(methods, cost.excerpts(asked, queries, length))
        rates_ = pd.DataFrame([{**of, **_top1(two)} for two, of in scored])
        found.append(table.drop(columns="top1").join(rates_).assign(query_frames=length))
    return pd.concat(found, ignore_index=True).round(3)


def _top1(scored):
    """Exact Top-1 of scored trials with its interval, in percent."""
    hit = scored.exact_rank == 1
    low, high = intervals.interval(hit, scored.recording)
    return {"n_queries": len(hit), "top1": 100 * hit.mean(), "top1_low": low, "top1_high": high}
