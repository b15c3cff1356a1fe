"""Networks whose layers keep a symmetry: nothing about it has to be learnt, or augmented.

Knows nothing of the house but how timm registers a model. `d4_resnet` turns its answer to no
rotation by 90 degrees and no reflection; `fourier` is a Fourier neural operator, whose answer no
cyclic shift changes, and hardly the number of pixels.
"""
