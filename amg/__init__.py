"""AMG-Embedding: one 128-d unit vector for up to 30 s of music.

Read the modules in this order, from samples to reports:

    check, paths, progress          one-sentence errors; where files live; progress bars
    audio, pools, degrade           sound: decode, frame, log-mel; noise, rooms, devices
    scores, recordings, open_music, corpora  where sound comes from
    checkpoint, nafp, pairs, nafp_train  the fingerprinter: 1 s of sound -> 128-d unit vector
    features, search, prepare       stored fingerprints; searches over them; data preparation
    crops, attention, densenet, encoders  the AMG encoder: fingerprints -> a vector
    losses, batches, models, train  how it is trained, kept and applied
    index, evaluate, base, robustness  databases, hit rates, what degradations do to them
    cost                            bytes and milliseconds
    tables, figures, pages          what people read
    machine, pipeline               what ran where; the notebooks end to end

A module imports only from those above it.
"""

__version__ = "0.1.0"
