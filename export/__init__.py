"""nicrt.export: trained PyTorch models → codec bundles (ONNX graphs, entropy tables, a program). Needs
PyTorch."""
