"""The micro suite: what the pool itself costs, as ratios within one run, against targets."""
