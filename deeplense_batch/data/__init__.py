"""What networks learn from: shards, how they are made, and how they reach the device."""
