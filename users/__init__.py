"""People and what they may do: the app whose pages keep the pool busy."""
