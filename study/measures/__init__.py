"""What is measured: of a generator, and of two sets of images."""
