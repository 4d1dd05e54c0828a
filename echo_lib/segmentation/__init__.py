"""The segmentation network that is trained on real or synthetic pairs and judged on real ones."""
