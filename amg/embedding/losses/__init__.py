"""Training losses on unit vectors: torch modules that have a name (see `registry`).

`forward(vectors, rows)`: (B, 128), `batches.Rows` -> scalar; the attribute `batches`, a key of
`batches.PARTS`, tells what a batch holds. An argument `centres` of the constructor, without
default, is given first class centres, float32 (n_songs, 128). What it learns are its parameters.
"""

from amg.embedding.losses import amg, infonce, triplet  # noqa: F401 each registers its class
from amg.embedding.registry import losses as registry

register = registry.register
