"""asv suite: one file per concept, peers as a parameter."""
