"""Weights that lie elsewhere: on the Hugging Face Hub, or where torchvision keeps its own."""
