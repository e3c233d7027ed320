"""Float PyTorch models of the codec families; their parameters' names are the checkpoints' keys."""
