"""The batch process: computes deferred predictions and batches for the supervisor. No HTTP, no database."""
