"""The label-map studio: change the anatomy by named edits, then see the echo."""
