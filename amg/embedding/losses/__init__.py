"""Training losses, all on unit vectors.

A loss is a torch module with a name, a class in a file of this folder or in a notebook's cell. It
says what its batches hold, and owns what it learns beside the encoder:

    @losses.register("toy")
    class Toy(nn.Module):
        batches = "pairs"                     # a key of `batches.PARTS`
        def __init__(self, temperature=1.0):  # arguments with a default are its settings
        def forward(self, vectors, rows):     # (B, 128), `batches.Rows` -> scalar

An argument `centres` without default is given first class centres, float32 (n_songs, 128).
"""

from amg.embedding.registry import Registry

registry = Registry("loss")
register = registry.register

from amg.embedding.losses import amg, infonce, triplet  # noqa: F401 each registers its class
