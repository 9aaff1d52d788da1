"""One look for every progress bar: on standard output, so that it is no warning in a notebook."""

import sys

from tqdm import tqdm


def bar(iterable=None, **options):
    """A tqdm bar; options are tqdm's (`desc`, `unit`, `total`, `initial`)."""
    return tqdm(iterable, file=sys.stdout, mininterval=1, ncols=88, **options)
