"""The endpoints of batches, of the results of deferred predictions, and of callbacks."""
