"""What a user describes: machine, kernel era, caches, policies, workload."""
