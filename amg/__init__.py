"""AMG-Embedding: one 128-d unit vector for up to 30 s of music.

Read the modules in this order, from samples to reports:

    check, paths, progress          one-sentence errors; where files live; progress bars
    audio, degrade, corpora         sound: decode, frame, log-mel; noise and rooms; sources
    checkpoint, nafp, nafp_train    the fingerprinter: 1 s of sound -> 128-d unit vector
    features, search, prepare       stored fingerprints; searches over them; data preparation
    crops, encoders, losses, train  the AMG encoder: many fingerprints -> one vector
    index, evaluate, cost           databases, hit rates, bytes and milliseconds
    tables, figures, pages          what people read
    machine, pipeline               what ran where; the notebooks end to end

A module imports only from those above it.
"""

__version__ = "0.1.0"
