"""What a training gains over its control: pretrained weights, adaptation, restored substructure.

Knows the statistics of the report. `pretraining` first: weights of a masked autoencoder or of
another network, against random ones.
"""
