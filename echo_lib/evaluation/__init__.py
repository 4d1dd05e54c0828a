"""Numbers: Dice per case, summaries, the table beside the paper."""
