"""Shows that the rows of a batch don't affect each other, by a walk through a TensorFlow graph.

Comparing batches with single requests finds rows that are mixed for the values at hand. This finds the operations that
can mix them for any values: a mean over the batch, a condition that depends on all rows, a sort, a batch
normalization in training mode. Whatever is not shown to keep rows apart counts as mixing them.
"""
