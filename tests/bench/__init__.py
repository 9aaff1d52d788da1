"""Benchmarks: our way against what the published code does, same data and weights, in one run.

`make bench` prints a table and writes it to `reports/bench/`. Only the ratios travel
between machines; run it on an idle one.
"""
