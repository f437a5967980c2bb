"""Where models come from: architectures, checkpoints, preprocessing."""
