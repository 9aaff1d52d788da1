"""AMG-Embedding, one 128-d vector for up to 30 s of music, reproduced; and `amg identify`, which
names your own music by an untrained vector of the kit's own.

Read the rooms in this order, from samples to reports:

    (shared)     check, paths, files, code, provenance, cluster, progress, machine, checkpoint
    sound        libsndfile, decoding, audio, clips, pools, degrade, recordings
    sound        sheet_music, open_music, fma, corpora, duplicates
    fingerprint  nafp, fingerprinters, features, folder, pairs, nafp_train, extraction
    embedding    crops, batches, registry, variations
    embedding.fast      packed, softmax, products
    embedding.encoders  mean, lift, transformer, lstm, cnn
    embedding.losses    arcface, amg, infonce, triplet
    embedding    validation, songs, runs, chosen, training
    retrieval    codes, search, databases, trials, hits, intervals, seeds
    retrieval    published, evaluate, nafp_search, cost, archives
    catalogue    models, significance, listening, store, writing, indexing, answer, library
    catalogue    catalogue, windows, sounds, identify, calibration
    studies      trace, unknown_songs, lifts, robustness, explore, other_systems, rivals
    studies      scale_distractors, scale, scale_forecast
    report       tables, sentences, verdict, figures, charts, lift_charts
    report       query_charts, scale_charts, sweep_tables, sweep_charts, answers, compare, pages
    report       readme
    report.running      reads, steps, pipeline, sweeps, sweep_runs, plan, forecast

In a program of your own, `amg.index`, `amg.identify` and `amg.Catalogue` name your music.

A room imports only from those above it, and a module of a room only from those before it.
"""

__version__ = "1.0.0"


_NAMES = {"index": "indexing", "identify": "identify", "Catalogue": "catalogue"}  # of the catalogue


def __getattr__(name):
    """What is imported when it is first asked for: `import amg` stays quick."""
    if name not in _NAMES:
        raise AttributeError(f"module 'amg' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"amg.catalogue.{_NAMES[name]}"), name)
