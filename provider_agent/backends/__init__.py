"""Who does the inference: one file per engine family, and what they share."""
