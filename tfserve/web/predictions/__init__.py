"""The data plane: the deployed models as the web process knows them, and the way of a prediction to a worker."""
