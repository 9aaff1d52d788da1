"""AMG-Embedding: one 128-d unit vector for up to 30 s of music.

Read the rooms in this order, from samples to reports:

    (shared)     check, paths, files, made, progress, machine, checkpoint
    sound        ffmpeg, audio, clips, pools, degrade, recordings, sheet_music, open_music, corpora
    fingerprint  nafp, fingerprinters, features, folder, pairs, nafp_train, extraction
    embedding    crops, batches, packed, registry
    embedding.encoders  mean, lift, transformer, lstm, cnn
    embedding.losses    arcface, amg, infonce, triplet
    embedding    validation, lifts, runs, training, growth
    retrieval    search, duplicates, databases, trials, hits, rates
    retrieval    published, evaluate, base, trace, unknown, robustness, cost
    retrieval    shortlists, modelled, scale, tail
    report       tables, sentences, figures, charts, scale_charts, compare, pages, steps, pipeline

A room imports only from those above it, and a module of a room only from those before it.
"""

__version__ = "0.2.0"
