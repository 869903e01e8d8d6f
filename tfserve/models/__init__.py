"""What supervisor and workers share about models. Imports no numpy and no runtime."""
