"""Training losses on unit vectors: torch modules with a name, here or in a notebook.

    @losses.register("toy")
    class Toy(nn.Module):
        batches = "pairs"                     # what its batches hold, a key of `batches.PARTS`
        def __init__(self, temperature=1.0):  # arguments with a default are its settings
        def forward(self, vectors, rows):     # (B, 128), `batches.Rows` -> scalar

An argument `centres` without default is given first class centres, float32 (n_songs, 128). What a
loss learns beside the encoder are its parameters.
"""

from amg.embedding.registry import Registry

registry = Registry("loss")
register = registry.register

from amg.embedding.losses import amg, infonce, triplet  # noqa: F401 each registers its class
