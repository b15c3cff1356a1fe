"""What a training gains over its control on the same seeds: pretrained weights, adaptation.

Knows the statistics of the report. `pretraining` first: weights of a masked autoencoder or of
another network, against random ones.
"""
