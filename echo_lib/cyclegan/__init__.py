"""The baseline: a CycleGAN from pseudo-images of heart meshes to echo images."""
