"""The ways to get a connection, as they run in the contenders' own processes."""
