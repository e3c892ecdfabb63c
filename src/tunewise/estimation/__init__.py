"""What training and serving a model would take, before anything is spent: memory, disk, time, money."""
