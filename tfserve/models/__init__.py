"""What supervisor and workers both know about models. Imports no numpy and no runtime."""
