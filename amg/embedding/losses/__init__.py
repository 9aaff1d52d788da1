"""Training losses on unit vectors: torch modules that have a name (see `registry`).

`forward(vectors, rows)`: (B, 128), `batches.Rows` -> scalar; the attribute `batches`, a key of
`batches.PARTS`, tells what a batch holds. Two arguments of the constructor, if it has them
without default, are given: `centres`, the initial class centres, float32 (n_songs, 128), and
`margin`, the margin law (see `crops.margin`). What a loss learns are its parameters.
"""

from amg.embedding.losses import amg, infonce, triplet  # noqa: F401 each registers its class
from amg.embedding.registry import losses as registry

register = registry.register
