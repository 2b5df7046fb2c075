"""`make bench`: what this repository does to be fast, measured beside the plain way of doing it.

Ours and plain run in turn (ours, plain, ours, plain, …) in one process after a warm-up of each, so
that a machine that is busy slows both. What is judged is the median of the paired results; their
range is shown as the spread. A target that is missed says so in the table, and is no failure of the
command. What is fast has to be right as well: the tests compare both sides' results.

`grid`, `growth` and `roofline` measure MNIST, `policies` the training of language models,
`functions` the library. `timing` holds what they share and `report` what becomes of it.
"""
