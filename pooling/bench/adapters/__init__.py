"""The contenders' adapters: one way each to get connections, run in the contender's own process."""
