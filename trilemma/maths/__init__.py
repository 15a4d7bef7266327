"""Functions of tensors: paths, samplers, losses, likelihoods, noise; nothing here knows a model or a data type."""
