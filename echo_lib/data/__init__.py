"""Raw echo data to prepared pairs of image and label map."""
